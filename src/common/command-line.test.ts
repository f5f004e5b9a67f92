import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";

import { commandLineOf } from "./command-line.ts";

test("a command line is read, and of a long one the beginning", async () => {
  const long = Array.from({ length: 10 }, () => "x".repeat(100_000));
  for (const [args, length] of [
    [["short"], "cat\0-\0short\0".length],
    [long, 64 * 1024],
  ] as const) {
    const child = spawn("cat", ["-", ...args], { stdio: ["pipe", "ignore", "ignore"] });
    await once(child, "spawn");
    const line = commandLineOf(child.pid ?? 0);
    assert.equal(line.length, length);
    assert.ok(line.startsWith("cat\0-\0"));
    child.stdin.end();
    await once(child, "exit");
  }
  assert.equal(commandLineOf(2 ** 30), "");
});
