import assert from "node:assert/strict";
import { test } from "node:test";

import { missingLimits } from "./limit-features.ts";

test("in version 1 each limit needs its file", () => {
  const missing = missingLimits("1", [], (file) => !file.startsWith("blkio/blkio.weight"));
  assert.deepEqual([...missing], ["io-weight", "io-weight-device"]);
});

test("in version 2 each limit needs its controller, and some are never there", () => {
  const missing = missingLimits("2", ["memory", "cpu", "pids", "io"], () => false);
  assert.deepEqual([...missing], ["swappiness", "oom-kill-disable", "cpuset"]);
});
