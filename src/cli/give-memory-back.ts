import { setFlagsFromString } from "node:v8";

/** Time after which a process that was started has loaded what it needs, and answered those who waited for it. */
const settledAfterMs = 5_000;

/** V8 forgets compiled code, and moves what is left together, from one collection to the next. */
const collections = 4;

/** Time for requests between two collections. */
const pauseMs = 250;

/**
 * Gives the machine back what loading the code has left, once: V8 itself keeps it. Takes some 50 ms of a service four
 * times, and Node's switch `--expose-gc`.
 */
export function giveMemoryBackOnceSettled(): void {
  setTimeout(collect, settledAfterMs, collections).unref();
}

function collect(left: number): void {
  // By itself V8 moves objects only out of pages of which it expects much.
  setFlagsFromString("--compact-on-every-full-gc");
  globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
  setFlagsFromString("--no-compact-on-every-full-gc");
  if (left > 1) {
    setTimeout(collect, pauseMs, left - 1).unref();
  }
}
