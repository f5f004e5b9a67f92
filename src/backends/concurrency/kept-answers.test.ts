import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ManualClock } from "../../common/manual-clock.ts";
import { KeptAnswers } from "./kept-answers.ts";

const lifetimeMs = 1000;

describe("an answer", () => {
  const counter = () => {
    let count = 0;
    return () => Promise.resolve(++count);
  };

  it("is kept for its time, for its key alone", async () => {
    const clock = new ManualClock();
    const answers = new KeptAnswers<number>(clock, lifetimeMs, 2);
    const ask = counter();
    assert.deepEqual(await Promise.all([answers.of("a", ask), answers.of("a", ask)]), [1, 1]);
    assert.equal(await answers.of("b", ask), 2);
    await clock.advance(lifetimeMs);
    assert.equal(await answers.of("a", ask), 3);
  });

  it("gives way to later ones where there are too many, and is not kept if it is a failure", async () => {
    const answers = new KeptAnswers<number>(new ManualClock(), lifetimeMs, 1);
    const ask = counter();
    await answers.of("a", ask);
    await answers.of("b", ask);
    assert.equal(await answers.of("a", ask), 3);
    await assert.rejects(
      answers.of("c", () => Promise.reject(new Error("once"))),
      /once/,
    );
    assert.equal(await answers.of("c", ask), 4);
  });
});
