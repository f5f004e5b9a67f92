import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ManualClock } from "../../../../common/manual-clock.ts";
import { ClientTokens, tokenLifetimeMs } from "./client-tokens.ts";

describe("a client's token", () => {
  const counter = () => {
    let count = 0;
    return () => Promise.resolve(++count);
  };

  it("gets the first answer again, for an hour", async () => {
    const clock = new ManualClock();
    const tokens = new ClientTokens<number>(clock);
    const task = counter();
    assert.deepEqual(await Promise.all([tokens.once("a", task), tokens.once("a", task)]), [1, 1]);
    assert.equal(await tokens.once("b", task), 2);
    await clock.advance(tokenLifetimeMs);
    assert.equal(await tokens.once("a", task), 3);
  });

  it("means nothing when it is empty, and does not keep a failure", async () => {
    const tokens = new ClientTokens<number>(new ManualClock());
    const task = counter();
    assert.deepEqual([await tokens.once("", task), await tokens.once("", task)], [1, 2]);
    await assert.rejects(
      tokens.once("c", () => Promise.reject(new Error("once"))),
      /once/,
    );
    assert.equal(await tokens.once("c", task), 3);
  });
});
