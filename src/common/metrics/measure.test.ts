import assert from "node:assert/strict";
import { test } from "node:test";

import { Measure } from "./measure.ts";

test("a report costs nothing while nobody observes, and reaches whoever does", () => {
  const measure = new Measure<{ readonly value: number }>("test");
  let made = 0;
  const report = (value: number): void =>
    measure.report(() => {
      made += 1;
      return { value };
    });
  report(1);
  assert.equal(made, 0);
  const seen: number[] = [];
  measure.observe(({ value }) => seen.push(value));
  report(2);
  assert.deepEqual([made, seen], [1, [2]]);
});
