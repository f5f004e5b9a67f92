import assert from "node:assert/strict";
import { test } from "node:test";

import { compileExpression, MatchingTime } from "./re2.ts";

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
