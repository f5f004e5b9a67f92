import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { isAlive } from "./daemon-processes.ts";

test("a later process with the ID of one that has ended is not taken for it", () => {
  const { pid } = process;
  const stat = readFileSync("/proc/self/stat", "utf8");
  const startedAt = stat.slice(stat.lastIndexOf(")")).split(" ")[20] ?? "";
  assert.ok(isAlive({ pid, startedAt }));
  assert.ok(!isAlive({ pid, startedAt: String(Number(startedAt) - 1) }));
});
