import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { choosePool } from "../common/engine/networks/decisions/address-pools.ts";
import { formatCidr } from "../common/engine/networks/decisions/cidr.ts";
import { acaNetworks } from "./networks.ts";

/** The subnets that networks get one after the other, the default bridge's first, until there is none. */
function subnets(): { readonly given: string[]; readonly refusal: unknown } {
  const given: string[] = [];
  for (;;) {
    try {
      given.push(formatCidr(choosePool(given, acaNetworks.addressPools)));
    } catch (refusal) {
      return { given, refusal };
    }
  }
}

describe("the addresses of networks", () => {
  it("are 256 slices of 172.18.0.0/16 beside the default bridge's, and then used up", () => {
    const { given, refusal } = subnets();
    const [bridge, first, ...others] = given;
    assert.equal(bridge, "172.17.0.0/16");
    assert.equal(first, "172.18.0.0/24");
    assert.equal(others.length, 255);
    assert.equal(others.at(-1), "172.18.255.0/24");
    assert.match(String(refusal), /all predefined address pools have been fully subnetted/);
  });
});

describe("a network that has containers", () => {
  it("is refused to go in the seed's words", () => {
    assert.equal(acaNetworks.inUseMessage, "network has active endpoints");
  });
});
