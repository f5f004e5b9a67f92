/** Streams that say now and then that they are alive. */
import type { Clock } from "../../../../common/clock.ts";

/** How long a stream is silent at most. */
export const heartbeatMs = 10_000;

/**
 * The messages of a source, with a heartbeat wherever it is silent for ten seconds.
 *
 * @param signal ends the source; its reason is thrown unless the source has ended
 */
export async function* withHeartbeats<T>(
  source: AsyncIterable<T>,
  heartbeat: () => T,
  clock: Clock,
  signal: AbortSignal,
): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  const stopped = Promise.withResolvers<never>();
  const abort = (): void => stopped.reject(signal.reason);
  stopped.promise.catch(() => undefined);
  signal.addEventListener("abort", abort, { once: true });
  let next = iterator.next();
  try {
    if (signal.aborted) {
      throw signal.reason;
    }
    for (;;) {
      const step = await beforeSilence(clock, Promise.race([next, stopped.promise]));
      if (step === undefined) {
        yield heartbeat();
      } else if (step.done === true) {
        return;
      } else {
        yield step.value;
        next = iterator.next();
      }
    }
  } finally {
    signal.removeEventListener("abort", abort);
    next.catch(() => undefined);
    // A source that is waiting ends by the same signal; it is not awaited here.
    iterator.return?.().catch(() => undefined);
  }
}

/** @returns undefined where nothing came in time */
async function beforeSilence<T>(clock: Clock, next: Promise<T>): Promise<T | undefined> {
  const timer = new AbortController();
  const silence = clock.sleep(heartbeatMs, timer.signal).then(
    () => undefined,
    () => undefined,
  );
  try {
    return await Promise.race([next, silence]);
  } finally {
    timer.abort();
  }
}
