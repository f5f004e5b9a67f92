import assert from "node:assert/strict";
import { test } from "node:test";

import { loopbackOf } from "./endpoints.ts";

test("an endpoint's address is mapped to the loopback of peers, without the loopback's own addresses", () => {
  assert.equal(loopbackOf("172.18.0.3"), "127.18.0.3");
  assert.equal(loopbackOf("192.168.7.20"), "127.168.7.20");
  assert.equal(loopbackOf("10.0.0.1"), "127.240.0.1");
});
