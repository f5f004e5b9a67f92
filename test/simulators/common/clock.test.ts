import assert from "node:assert/strict";
import { test } from "node:test";

import { SimulatedClock } from "./clock.ts";

const hour = 3_600_000;

test("what becomes due is done in its order, at its own time", () => {
  const clock = new SimulatedClock();
  const start = clock.nowMs();
  const done: string[] = [];
  const note = (name: string) => () => done.push(`${name} ${Math.floor((clock.nowMs() - start) / hour)}`);
  clock.after(3 * hour, note("third"));
  clock.after(hour, () => {
    note("first")();
    clock.after(hour, note("second"));
  });
  clock.after(9 * hour, note("never"));
  clock.advance(4 * hour);
  assert.deepEqual(done, ["first 1", "second 2", "third 3"]);
  clock.stop();
});

test("what is called off is not done", () => {
  const clock = new SimulatedClock();
  let isDone = false;
  const cancel = clock.after(hour, () => {
    isDone = true;
  });
  cancel();
  clock.advance(2 * hour);
  assert.equal(isDone, false);
});

test("a sleep ends with time put forward, or with its signal", async () => {
  const clock = new SimulatedClock();
  const slept = clock.sleep(hour);
  clock.advance(hour);
  await slept;
  const giveUp = new AbortController();
  const aborted = clock.sleep(hour, giveUp.signal);
  giveUp.abort(new Error("enough"));
  await assert.rejects(aborted, /enough/);
  await assert.rejects(clock.sleep(hour, giveUp.signal), /enough/);
});

test("time runs by itself too", async () => {
  const clock = new SimulatedClock();
  // The clock's timer keeps no process alive.
  const awake = setInterval(() => {}, 1000);
  await clock.sleep(1);
  clearInterval(awake);
});
