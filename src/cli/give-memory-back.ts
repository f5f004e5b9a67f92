import type { PerformanceNodeEntry } from "node:perf_hooks";
import { setFlagsFromString } from "node:v8";

/** Time after which a process that was started has loaded what it needs, and answered those who waited for it. */
const settledAfterMs = 5_000;

/** Collections after a start: V8 forgets compiled code from one to the next. */
const collectionsOnceSettled = 4;

/** Time for requests between two collections. */
const pauseMs = 250;

/** Time without a collection of what is young after which a process has done its work. */
const quietAfterMs = 10_000;

/** `NODE_PERFORMANCE_GC_MINOR` of `node:perf_hooks`, which the supervisor need not load. */
const youngKind = 1;

/**
 * Gives the machine back what loading the code has left, once: V8 itself keeps it. Takes 50 to 170 ms of a service four
 * times, and Node's switch `--expose-gc`.
 *
 * @param trim gives back what is not V8's, behind each collection
 */
export function giveMemoryBackOnceSettled(trim?: () => void): void {
  setTimeout(compact, settledAfterMs, collectionsOnceSettled, trim).unref();
}

/**
 * Gives the machine back what work has left, each time that it is done: V8's young generation grows with work, and it
 * costs less processor time where it may. Wakes nobody while there is no work.
 *
 * @param trim gives back what is not V8's, behind each collection
 * @param quietMs time without a collection of what is young after which the work is done
 */
export function giveMemoryBackAfterWork(trim?: () => void, quietMs: number = quietAfterMs): void {
  let quiet: NodeJS.Timeout | undefined;
  const observer = new PerformanceObserver((collections) => {
    if ((collections.getEntries() as PerformanceNodeEntry[]).some(isOfYoung)) {
      quiet ??= setTimeout(() => {
        quiet = undefined;
        giveMemoryBack(trim);
      }, quietMs).unref();
      quiet.refresh();
    }
  });
  observer.observe({ entryTypes: ["gc"] });
}

/** True for a collection of what is young, as V8 makes them: not of one that is asked for. */
function isOfYoung({ detail }: PerformanceNodeEntry): boolean {
  return (detail as { readonly kind?: number }).kind === youngKind;
}

/** Collects, and has V8 move objects, which by itself it does only out of pages of which it expects much. */
function compact(collections: number, trim: (() => void) | undefined): void {
  setFlagsFromString("--compact-on-every-full-gc");
  giveMemoryBack(trim);
  setFlagsFromString("--no-compact-on-every-full-gc");
  if (collections > 1) {
    setTimeout(compact, pauseMs, collections - 1, trim).unref();
  }
}

/** Only this kind of collection makes the young generation small again. */
function giveMemoryBack(trim: (() => void) | undefined): void {
  globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
  trim?.();
}
