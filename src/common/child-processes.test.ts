import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { it } from "node:test";

import { endOf, hasExited, untilExit } from "./child-processes.ts";

it("the end of a child is told by its signal or its code, or that it could not be started", async () => {
  const child = spawn("/nonexistent");
  const failed = once(child, "error");
  assert.ok(hasExited(child));
  assert.equal(endOf(child), "it could not be started");
  await failed;
  for (const [script, end] of [
    ["exit 7", "exit code 7"],
    ["kill -9 $$", "SIGKILL"],
  ] as const) {
    const child = spawn("sh", ["-c", script]);
    await untilExit(child);
    assert.equal(endOf(child), end);
  }
});
