import assert from "node:assert/strict";
import { test } from "node:test";

import fc from "fast-check";

import { ByteBudget } from "./byte-budget.ts";

test("those who hold no more than their share never hold more than the total, beside their least", () => {
  const steps = fc.array(fc.tuple(fc.nat(20), fc.integer({ min: -100, max: 300 })), { maxLength: 200 });
  fc.assert(
    fc.property(steps, (all) => {
      const budget = new ByteBudget(1000);
      const held = new Map<number, number>();
      for (const [who, step] of all) {
        const has = held.get(who) ?? 0;
        if (step < 0) {
          const given = Math.min(has, -step);
          budget.give(given);
          held.set(who, has - given);
        } else if (has + step <= budget.share(10, 500)) {
          budget.take(step);
          held.set(who, has + step);
        }
        const sum = [...held.values()].reduce((a, b) => a + b, 0);
        assert.ok(sum <= 1000 + held.size * 10);
      }
      for (const bytes of held.values()) {
        budget.give(bytes);
      }
      assert.equal(budget.share(0, 1000), 125);
    }),
  );
});

test("a share stays within its bounds, and shrinks by the bytes to be taken", () => {
  const budget = new ByteBudget(800);
  assert.deepEqual([budget.share(10, 50), budget.share(10, 500), budget.share(200, 500)], [50, 100, 200]);
  assert.equal(budget.share(10, 500, 400), 50);
  budget.take(900);
  assert.equal(budget.share(10, 500), 10);
});
