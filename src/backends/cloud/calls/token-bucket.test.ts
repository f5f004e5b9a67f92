import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ManualClock } from "../../../common/manual-clock.ts";
import { TokenBucket } from "./token-bucket.ts";

describe("a token bucket", () => {
  it("gives a burst at once and the rest at its rate", async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket({ burst: 2, perSecond: 4 }, clock);
    const given: number[] = [];
    for (let number = 1; number <= 5; number++) {
      void bucket.take(0).then(() => given.push(number));
    }
    await clock.advance(0);
    assert.deepEqual(given, [1, 2]);
    await clock.advance(249);
    assert.deepEqual(given, [1, 2]);
    await clock.advance(1);
    assert.deepEqual(given, [1, 2, 3]);
    await clock.advance(500);
    assert.deepEqual(given, [1, 2, 3, 4, 5]);
  });

  it("serves what is urgent first", async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket({ burst: 1, perSecond: 1 }, clock);
    const given: string[] = [];
    await bucket.take(0);
    for (const [name, priority] of [
      ["clear", 2],
      ["stop", 1],
      ["start", 0],
      ["second start", 0],
    ] as const) {
      void bucket.take(priority).then(() => given.push(name));
    }
    await clock.advance(4_000);
    assert.deepEqual(given, ["start", "second start", "stop", "clear"]);
  });

  it("lets who waits leave, and does not spend a token on them", async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket({ burst: 1, perSecond: 1 }, clock);
    await bucket.take(0);
    const leaving = new AbortController();
    const left = bucket.take(0, leaving.signal);
    let served = false;
    void bucket.take(0).then(() => {
      served = true;
    });
    leaving.abort(new Error("gone"));
    await assert.rejects(left, /gone/);
    await clock.advance(1_000);
    assert.ok(served);
  });

  it("gives nothing for a while when the account's rate is used up elsewhere", async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket({ burst: 10, perSecond: 1 }, clock);
    bucket.drain();
    let served = false;
    void bucket.take(0).then(() => {
      served = true;
    });
    await clock.advance(999);
    assert.ok(!served);
    await clock.advance(1);
    assert.ok(served);
  });
});
