import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { BringUps } from "./bring-ups.ts";

describe("the time in which prepared tasks come up", () => {
  it("is the median of the last of their shape, or of all where there is none", () => {
    const bringUps = new BringUps();
    const first = bringUps.lateAfterMs("a");
    for (const [shape, ms] of [
      ["a", 10],
      ["a", 1_000],
      ["a", 12],
      ["b", 40],
    ] as const) {
      bringUps.add(shape, ms);
    }
    assert.equal(first, 52_500);
    assert.equal(bringUps.lateAfterMs("a"), 18);
    assert.equal(bringUps.lateAfterMs("b"), 60);
    assert.equal(bringUps.lateAfterMs("c"), 60);
  });

  it("forgets what was long ago", () => {
    const bringUps = new BringUps();
    for (let count = 0; count < 30; count++) {
      bringUps.add("a", count < 15 ? 10 : 20);
    }
    assert.equal(bringUps.lateAfterMs("a"), 30);
  });
});
