import type { PerformanceNodeEntry } from "node:perf_hooks";

/** Time after which a process that was started has loaded what it needs, and answered those who waited for it. */
const settledAfterMs = 5_000;

/** Time without a collection of what is young after which a process has done its work. */
const quietAfterMs = 10_000;

/** `NODE_PERFORMANCE_GC_MINOR` of `node:perf_hooks`, which the supervisor need not load. */
const youngKind = 1;

/** Returns what loading the code has left to the machine, once, in 50 to 170 ms. Needs Node's switch `--expose-gc`. */
export function giveMemoryBackOnceSettled(): void {
  setTimeout(giveMemoryBack, settledAfterMs).unref();
}

/**
 * Returns what work has left to the machine, each time that it is done: V8's young generation grows with work and stays
 * grown. Wakes nobody while there is no work.
 *
 * @param quietMs time without a collection of the young generation after which the work is done
 */
export function giveMemoryBackAfterWork(quietMs: number = quietAfterMs): void {
  let quiet: NodeJS.Timeout | undefined;
  const observer = new PerformanceObserver((collections) => {
    if ((collections.getEntries() as PerformanceNodeEntry[]).some(isOfYoung)) {
      quiet ??= setTimeout(() => {
        quiet = undefined;
        giveMemoryBack();
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

/** Only this kind of collection makes the young generation small again. */
function giveMemoryBack(): void {
  globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
}
