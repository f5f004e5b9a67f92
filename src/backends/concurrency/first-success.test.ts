import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ManualClock } from "../../common/manual-clock.ts";
import { onAbort } from "../../common/on-abort.ts";
import { type Attempt, firstSuccess } from "./first-success.ts";

const never = new AbortController().signal;

/** The first success of attempts without progress. */
function firstOf(
  runs: readonly Attempt<string>["run"][],
  clock: ManualClock,
  signal = never,
): Promise<string> {
  const attempts = runs.map((run) => ({ run, progress: () => 0 }));
  return firstSuccess(attempts, { clock, pauseMs: 1000, leastProgress: 10 }, signal);
}

/** An attempt that hangs until it is aborted, and tells so. */
function hanging(aborted: string[], name: string) {
  return (signal: AbortSignal): Promise<string> =>
    new Promise((_resolve, reject) => {
      onAbort(signal, () => {
        aborted.push(name);
        reject(signal.reason);
      });
    });
}

const failing = (message: string) => async (): Promise<string> => {
  throw new Error(message);
};

describe("the first success of several attempts", () => {
  it("is that of the next one at once where one fails", async () => {
    const clock = new ManualClock();
    const attempts = [failing("one"), failing("two"), async () => "three", async () => assert.fail()];
    assert.equal(await firstOf(attempts, clock), "three");
    assert.equal(clock.sleeping, 0, "no pause is left");
  });

  it("is that of the next one after a pause where one hangs, which is aborted then", async () => {
    const clock = new ManualClock();
    const aborted: string[] = [];
    const attempts = [hanging(aborted, "one"), hanging(aborted, "two"), async () => "three"];
    const first = firstOf(attempts, clock);
    await clock.advance(1000);
    assert.deepEqual(aborted, []);
    await clock.advance(1000);
    assert.equal(await first, "three");
    assert.deepEqual(aborted, ["one", "two"]);
  });

  it("is that of an earlier one that is slow", async () => {
    const clock = new ManualClock();
    const slow = Promise.withResolvers<string>();
    const aborted: string[] = [];
    const attempts = [() => slow.promise, hanging(aborted, "two"), async () => assert.fail()];
    const first = firstOf(attempts, clock);
    await clock.advance(1000);
    slow.resolve("one");
    assert.equal(await first, "one");
    assert.deepEqual(aborted, ["two"]);
  });

  it("is asked of the next one once the one before is slow, and slower than the longer it takes", async () => {
    const clock = new ManualClock();
    const aborted: string[] = [];
    let done = 0;
    let asked: number = 0;
    const next = Promise.withResolvers<string>();
    const askNext = (): Promise<string> => {
      asked += 1;
      return next.promise;
    };
    const attempts = [
      { run: hanging(aborted, "one"), progress: () => done },
      { run: askNext, progress: () => 0 },
    ];
    const first = firstSuccess(attempts, { clock, pauseMs: 1000, leastProgress: 10 }, never);
    for (const more of [10, 20, 30, 40]) {
      done += more;
      await clock.advance(1000);
      assert.equal(asked, 0, `${done}`);
    }
    done += 49;
    await clock.advance(1000);
    assert.equal(asked, 1);
    assert.deepEqual(aborted, []);
    next.resolve("two");
    assert.equal(await first, "two");
    assert.deepEqual(aborted, ["one"]);
    assert.equal(clock.sleeping, 0, "no pause is left");
  });

  it("fails as the first one did where all fail", async () => {
    const clock = new ManualClock();
    const first = firstOf([failing("one"), failing("two")], clock);
    await assert.rejects(first, /one/);
  });

  it("is waited for until the signal aborts", async () => {
    const clock = new ManualClock();
    const aborted: string[] = [];
    const caller = new AbortController();
    const attempts = [hanging(aborted, "one"), hanging(aborted, "two"), async () => assert.fail()];
    const first = firstOf(attempts, clock, caller.signal);
    await clock.advance(1000);
    caller.abort(new Error("the caller left"));
    await assert.rejects(first, /the caller left/);
    assert.deepEqual(aborted, ["one", "two"]);
  });
});
