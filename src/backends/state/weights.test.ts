import assert from "node:assert/strict";
import { test } from "node:test";

import { Weights, weightOf } from "./weights.ts";

const small = { text: "x".repeat(2_000) };

/** Adds small records until one is refused, which is taken out again. @returns how many were taken */
function fill(weights: Weights): number {
  for (let n = 0; ; n++) {
    if (weights.set(`${n}`, small)) {
      weights.delete(`${n}`);
      return n;
    }
  }
}

test("changes of all records of a kind that is full add 16 MiB together, as many as they are", () => {
  const weights = new Weights();
  const taken = fill(weights);
  const grown = { text: "x".repeat(60_000) };
  let added = 0;
  for (let n = 0; n < taken; n++) {
    if (weights.set(`${n}`, grown)) {
      weights.set(`${n}`, small);
    } else {
      added += weightOf(grown) - weightOf(small);
    }
  }
  assert.ok(added > 15 * 2 ** 20 && added <= 17 * 2 ** 20, `${added} added`);
  assert.ok(!weights.set("0", { text: "" }), "what takes away is no growth");
});

test("records that are read anew may add no more than before", () => {
  const reached = new Weights();
  for (let n = 0; n < 80; n++) {
    reached.set(`${n}`, { text: "x".repeat(2 ** 20) });
  }
  assert.ok(reached.set("0", { text: "x".repeat(2 ** 20 + 1) }));
});
