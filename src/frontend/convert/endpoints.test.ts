import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { NetworkEndpointSchema } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { globalIpv6Of } from "./endpoints.ts";

test("a real address is shown as the IPv6 one if it is, and there is no other", () => {
  const shown = (reachableAddress: string, globalIpv6Address = "") =>
    globalIpv6Of(create(NetworkEndpointSchema, { reachableAddress, globalIpv6Address })).GlobalIPv6Address;
  assert.equal(shown("fd00::2"), "fd00::2");
  assert.equal(shown("10.0.0.2"), "");
  assert.equal(shown(""), "");
  assert.equal(shown("fd00::2", "fd00::3"), "fd00::3");
});
