/** The most telling of Docker's own tests; `npm run conformance` runs all, as `npm run soak` does. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { missingPrograms } from "./machine.ts";
import { runSuite } from "./run-suite.ts";
import { suites } from "./suites.ts";

/** By the name of the suite; undefined: all of its tests. */
const telling: Readonly<Record<string, string | undefined>> = {
  "docker-py": undefined,
  "integration/container": [
    ...[
      "TestAttach",
      "TestCreateBy",
      "TestCreateFails",
      "TestCreateInvalid",
      "TestCreateLink",
      "TestCreateTmpfs",
    ],
    ...[
      "TestCreateWith",
      "TestDiff",
      "TestExec",
      "TestExport",
      "TestHealthCheck",
      "TestHealthKill",
      "TestInspect",
    ],
    ...["TestKill", "TestLogs", "TestPause", "TestPs", "TestRemove", "TestResize", "TestStats"],
    ...[
      "TestStopContainerWithRestart",
      "TestStopContainerWithTimeoutCancel",
      "TestUpdateCPU",
      "TestUpdateMemory",
    ],
    ...["TestUpdatePids", "TestWait"],
  ].join("|"),
};

const missing = missingPrograms();
const limitMs = 25 * 60_000; // Most of it for what is built the first time.

for (const [name, only] of Object.entries(telling)) {
  test(`${name}: no failure but those that dockerd has or docs/differences.md explains`, {
    timeout: limitMs,
    skip: missing.length > 0 ? missing.join("; ") : false,
  }, async () => {
    const suite = suites.find((each) => each.name === name);
    assert.ok(suite);
    const { unexpected, passedThough, passedOnBoth } = await runSuite(suite, only);
    assert.deepEqual(unexpected, []);
    assert.deepEqual(passedThough, []);
    assert.ok(passedOnBoth > 0);
  });
}
