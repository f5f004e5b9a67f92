import assert from "node:assert/strict";
import { test } from "node:test";

import { ManualClock } from "./manual-clock.ts";
import { after, every } from "./timers.ts";

test("something is done once when its time has come, unless it is called off", async () => {
  const clock = new ManualClock();
  const done: string[] = [];
  const disposed = after(clock, 100, () => done.push("called off"));
  after(clock, 200, () => done.push("done"));
  await clock.advance(99);
  disposed[Symbol.dispose]();
  await clock.advance(100);
  assert.deepEqual(done, []);
  await clock.advance(1_000);
  assert.deepEqual(done, ["done"]);
  assert.equal(clock.sleeping, 0);
});

test("something is done again and again until a signal aborts", async () => {
  const clock = new ManualClock();
  const over = new AbortController();
  let times = 0;
  every(clock, 100, () => times++, over.signal);
  await clock.advance(350);
  assert.equal(times, 3);
  over.abort();
  await clock.advance(1_000);
  assert.equal(times, 3);
  assert.equal(clock.sleeping, 0);
});
