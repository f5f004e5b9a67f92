import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { testsOf } from "./changed.ts";

/** A small checkout: a module and its test, what imports it, a test of the engine, and daemons' tests. */
const graph = new Map<string, readonly string[]>([
  ["src/common/ids.ts", []],
  ["src/common/ids.test.ts", ["src/common/ids.ts"]],
  ["src/backends/engine/create.ts", ["src/common/ids.ts"]],
  ["src/backends/engine/create.test.ts", ["src/backends/engine/create.ts"]],
  ["src/common/clock.test.ts", ["src/common/clock.ts"]],
  ["test/contract/engine/creation.test.ts", ["src/backends/engine/create.ts"]],
  ["test/support/daemon.ts", ["src/common/ids.ts"]],
  ["test/api/run.test.ts", ["test/support/daemon.ts"]],
]);

describe("the tests of what changed", () => {
  it("are those that import it, directly or not, from source", () => {
    assert.deepEqual(testsOf(["src/backends/engine/create.ts"], graph), {
      unit: ["src/backends/engine/create.test.ts", "test/contract/engine/creation.test.ts"],
      integration: [],
      leftOut: 0,
    });
    assert.deepEqual(testsOf(["src/common/ids.ts"], graph), {
      unit: [
        "src/common/ids.test.ts",
        "src/backends/engine/create.test.ts",
        "test/contract/engine/creation.test.ts",
      ],
      integration: [],
      leftOut: 1,
    });
  });

  it("are those with daemons where files of test/ changed", () => {
    assert.deepEqual(testsOf(["test/support/daemon.ts"], graph), {
      unit: [],
      integration: ["test/api/run.test.ts"],
      leftOut: 0,
    });
  });

  it("are none of what no test imports", () => {
    const none = { unit: [], integration: [], leftOut: 0 };
    assert.deepEqual(testsOf(["README.md", "src/gone.test.ts"], graph), none);
  });
});
