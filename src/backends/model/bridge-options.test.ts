import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { bridgeOptionsOf, endpointOptionsOf, isBridgeOption, sysctlFaults } from "./bridge-options.ts";

const prefixed = (options: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(options).map(([key, value]) => [`com.docker.network.${key}`, value]));

describe("the options of a bridge", () => {
  it("are Docker's defaults if not given", () => {
    assert.deepEqual(bridgeOptionsOf({ mine: "own" }, false), {
      name: "",
      mtu: 0,
      interconnected: true,
      masquerades: true,
      source: "",
      addressed: true,
      hasGateway: true,
      hostAddress: "",
      interfacePrefix: "",
    });
  });

  it("say whether the machine has an address there, and containers a gateway", () => {
    const inhibited = prefixed({ "bridge.inhibit_ipv4": "1" });
    const isolated = prefixed({ "bridge.gateway_mode_ipv4": "isolated" });
    const seen = [
      bridgeOptionsOf(inhibited, false),
      bridgeOptionsOf(inhibited, true),
      bridgeOptionsOf(isolated, true),
    ];
    assert.deepEqual(
      seen.map(({ addressed, hasGateway }) => [addressed, hasGateway]),
      [
        [false, true],
        [false, false],
        [false, false],
      ],
    );
  });

  it("are refused if invalid", () => {
    for (const options of [
      { "driver.mtu": "-1" },
      { "driver.mtu": "" },
      { "bridge.host_binding_ipv4": "::1" },
    ]) {
      assert.throws(() => bridgeOptionsOf(prefixed(options), true), { kind: "invalid" });
    }
  });

  it("are known by name, except those not implemented", () => {
    const mode = "com.docker.network.bridge.gateway_mode_ipv4";
    assert.deepEqual(
      ["nat", "isolated", "wrong", "routed", "nat-unprotected"].map((value) => isBridgeOption(mode, value)),
      [true, true, true, false, false],
    );
    assert.equal(isBridgeOption("com.docker.network.bridge.trusted_host_interfaces", "eth0"), false);
  });
});

describe("the sysctls of an endpoint", () => {
  const sysctls = (text: string) => prefixed({ "endpoint.sysctls": text });

  it("name the interface by IFNAME, in either case", () => {
    assert.deepEqual(
      endpointOptionsOf(sysctls("net.ipv4.conf.IFNAME.forwarding=1,net.ipv4.neigh.ifname.mcast_solicit=")),
      {
        interfaceName: "",
        sysctls: [
          { family: "ipv4", table: "conf", name: "forwarding", value: "1" },
          { family: "ipv4", table: "neigh", name: "mcast_solicit", value: "" },
        ],
      },
    );
  });

  it("lead nowhere else", () => {
    for (const text of [
      "",
      "net.ipv4.conf.eth0.forwarding=1",
      "net.core.conf.IFNAME.forwarding=1",
      "net.ipv4.conf.IFNAME.a/../../b=1",
      "net.ipv4.conf.IFNAME.forwarding",
      "net.ipv4...IFNAME.forwarding=1",
    ]) {
      assert.equal(sysctlFaults(sysctls(text)).length, 1, text);
      assert.deepEqual(endpointOptionsOf(sysctls(text)).sysctls, []);
    }
  });
});
