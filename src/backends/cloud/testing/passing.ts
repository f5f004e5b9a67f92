import assert from "node:assert/strict";

import type { ManualClock } from "../../../common/manual-clock.ts";

/** Advances a clock until work that sleeps by it has succeeded or failed; by at most an hour. */
export async function passing<T>(clock: ManualClock, work: Promise<T>): Promise<T> {
  let isDone = false;
  const done = work.finally(() => {
    isDone = true;
  });
  done.catch(() => {});
  for (let seconds = 0; !isDone && seconds < 3_600; seconds++) {
    await clock.advance(1_000);
  }
  assert.ok(isDone, "it takes more than an hour");
  return await done;
}
