import assert from "node:assert/strict";
import { test } from "node:test";

import { compileExpression, MatchingTime, writtenOutLength } from "./re2.ts";

const random = (length: number): string =>
  Array.from({ length }, () => (Math.random() < 0.5 ? "a" : "b")).join("");

test("matches that take long are refused: one at once, and many together, whoever asks for them", () => {
  const time = new MatchingTime();
  const costly = "a.{0,900}[zy]";
  assert.throws(() => compileExpression(costly, time).test(random(100_000)), { kind: "invalid" });
  assert.equal(compileExpression(costly, time).test(`${random(1_000)}z`), true);
  assert.throws(
    () => {
      for (let requests = 0; requests < 1_000; requests++) {
        compileExpression(costly, time).test(random(4_000));
      }
    },
    { kind: "unavailable" },
  );
  assert.equal(compileExpression("^w.*b$", new MatchingTime()).test("web"), true);
});

test("repetitions are measured, and one of many digits at once", () => {
  assert.deepEqual(
    ["a{3}", "(ab){2,}", "(ab){2,4}", "a{,3}", "a{}"].map(writtenOutLength),
    [7, 16, 36, 5, 3],
  );
  const before = process.threadCpuUsage();
  for (let n = 0; n < 50; n++) {
    assert.equal(writtenOutLength(`a{${"1".repeat(16_000)}`), 16_002);
  }
  const { user } = process.threadCpuUsage(before);
  assert.ok(user < 1_000_000, `${user} µs`); // Each split into two numbers: 20 s
});
