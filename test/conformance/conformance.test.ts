/** The most telling of Docker's own tests; `npm run conformance` runs all, as `npm run soak` does. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { runCommand } from "../support/command.ts";
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
const limits = {
  timeout: 25 * 60_000, // Most of it for what is built the first time.
  skip: missing.length > 0 ? missing.join("; ") : false,
};

for (const [name, only] of Object.entries(telling)) {
  test(`${name}: no failure but those that dockerd has or docs/differences.md explains`, limits, async () => {
    const suite = suites.find((each) => each.name === name);
    assert.ok(suite);
    const judgement = await runSuite(suite, only);
    assert.ok(judgement);
    const { unexpected, passedThough, passedOnBoth } = judgement;
    assert.deepEqual(unexpected, []);
    assert.deepEqual(passedThough, []);
    assert.ok(passedOnBoth > 0);
  });
}

test("a pattern that no test of a suite matches is told in one line", limits, async () => {
  const program = join(import.meta.dirname, "conformance.js");
  const { code, errorText } = await runCommand(process.execPath, [program, "docker-py", "--run", "nosuch"], {
    timeout: limits.timeout,
  });
  assert.equal(code, 1);
  assert.match(errorText, /^conformance: no test of docker-py matches nosuch$/m);
  assert.doesNotMatch(errorText, /^ +at /m);
});
