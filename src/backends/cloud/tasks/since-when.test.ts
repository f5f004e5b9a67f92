import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { SinceWhen } from "./since-when.ts";

describe("something that is met again and again", () => {
  it("lasts since it was met first, by key", () => {
    const spells = new SinceWhen(100);
    assert.equal(spells.met("a", 1_000), 1_000);
    assert.equal(spells.met("b", 1_050), 1_050);
    assert.equal(spells.met("a", 1_099), 1_000);
    assert.equal(spells.met("a", 1_198), 1_000);
  });

  it("has begun anew where it had ended, or was not met for as long as it is remembered", () => {
    const spells = new SinceWhen(100);
    spells.met("a", 1_000);
    spells.ended("a");
    assert.equal(spells.met("a", 1_001), 1_001);
    assert.equal(spells.met("a", 1_101), 1_101);
  });

  it("is forgotten with the next that is met, whatever that is", () => {
    const spells = new SinceWhen(100);
    for (let each = 0; each < 10; each++) {
      spells.met(`past ${each}`, 1_000 + each);
    }
    spells.met("next", 1_105);
    assert.equal(spells.size, 5);
    spells.met("next", 1_109);
    assert.equal(spells.size, 1);
  });
});
