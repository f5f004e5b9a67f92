import type { PerformanceNodeEntry } from "node:perf_hooks";

/** Time after which a started process has loaded its code and answered the requests that waited for it. */
const settledAfterMs = 5_000;

/** Time without a minor collection after which a process counts as idle. */
const quietAfterMs = 10_000;

/** `NODE_PERFORMANCE_GC_MINOR` of `node:perf_hooks`, which the supervisor avoids loading. */
const youngKind = 1;

/**
 * Returns the memory used for loading the code to the machine, once; takes 50 to 170 ms. Needs Node's switch
 * `--expose-gc`.
 */
export function giveMemoryBackOnceSettled(): void {
  setTimeout(giveMemoryBack, settledAfterMs).unref();
}

/**
 * Returns memory to the machine each time work has ended: V8's young generation grows with work and does not shrink by
 * itself. Runs no timer while there is no work.
 *
 * @param quietMs time without a minor collection after which the work has ended
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

/** True for V8's own minor collections; false for requested ones. */
function isOfYoung({ detail }: PerformanceNodeEntry): boolean {
  return (detail as { readonly kind?: number }).kind === youngKind;
}

/** Only this kind of collection shrinks the young generation. */
function giveMemoryBack(): void {
  globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
}
