import assert from "node:assert/strict";
import { test } from "node:test";

import { cpusetFault, isAvailable } from "./cpuset.ts";

test("a list of processors is numbers and ranges", () => {
  for (const list of ["", "0", "0-2,4", "8192", "3-3"]) {
    assert.equal(cpusetFault(list), undefined, list);
  }
  for (const list of ["x", "0,", "2-1", "1-", "-1", "0 ", "1-2-3"]) {
    assert.equal(cpusetFault(list), `invalid format: ${list}`, list);
  }
  assert.equal(cpusetFault("0,".repeat(2_048)), `invalid format: ${"0,".repeat(2_048)}`);
  assert.equal(cpusetFault("0,".repeat(2_049)), "more than 4096 characters");
  assert.equal(cpusetFault("0-99999"), "value of out range, maximum is 8192");
});

test("a machine has what its own list names", () => {
  for (const list of ["", "0-1", "0,1", "3", "1,3"]) {
    assert.ok(isAvailable(list, "0-1,3"), list);
  }
  for (const list of ["2", "0-2", "0-3", "0,1-9"]) {
    assert.ok(!isAvailable(list, "0-1,3"), list);
  }
});
