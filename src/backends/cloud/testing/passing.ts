import assert from "node:assert/strict";

import type { ManualClock } from "../../../common/manual-clock.ts";

/** Moves a clock until work that sleeps by it is done, or has failed; for an hour at most. */
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
