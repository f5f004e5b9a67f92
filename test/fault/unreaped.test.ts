/**
 * Killed processes stay zombies if the machine's first process does not reap, as in a container without an
 * init: the death of a shim is dealt with all the same. The test runner itself is the first process of a PID
 * namespace here.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";

test("a shim that dies leaves nothing where nobody reaps", async () => {
  const { NODE_TEST_CONTEXT: _ofThisRunner, ...env } = process.env;
  const { code, text, errorText } = await runCommand(
    "unshare",
    [
      ...["--pid", "--fork", "--kill-child", "--mount-proc", process.execPath, "--test"],
      ...["--test-name-pattern=shim dies", join(checkout, "dist/test/fault/shim-death.test.js")],
    ],
    { env, timeout: 880_000 },
  );
  assert.equal(code, 0, `${text}\n${errorText}`);
  assert.match(text, /^(# |ℹ )pass [1-9]/m);
});
