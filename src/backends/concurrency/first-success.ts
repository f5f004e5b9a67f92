/** Several ways to one result, of which some may hang. */
import type { Clock } from "../../common/clock.ts";

/** A way to the result. */
export interface Attempt<T> {
  /** Ends soon once the signal aborts. */
  readonly run: (signal: AbortSignal) => Promise<T>;
  /** A count of what it has done so far. */
  readonly progress: () => number;
}

/** Conditions on which an attempt is left to itself. */
export interface Patience {
  readonly clock: Clock;
  readonly pauseMs: number;
  /** Progress in an attempt's first pause; twice this in its second one, and so on: what takes long has to be fast. */
  readonly leastProgress: number;
}

/**
 * Runs attempts in order until one succeeds: the next one when the last has failed, or beside it after a pause in which
 * that has made too little progress. The success aborts the others and waits for their end.
 *
 * @param attempts at least one
 * @throws the first one's error if all fail; the signal's reason
 */
export async function firstSuccess<T>(
  attempts: readonly Attempt<T>[],
  { clock, pauseMs, leastProgress }: Patience,
  signal: AbortSignal,
): Promise<T> {
  const over = new AbortController();
  const ended = AbortSignal.any([signal, over.signal]);
  const succeeded = Promise.withResolvers<void>();
  const running: Promise<T>[] = [];
  let hasSucceeded: boolean = false;
  try {
    for (const { run, progress } of attempts) {
      signal.throwIfAborted();
      let before = progress();
      const latest = run(ended);
      running.push(latest);
      const tried = latest.then(
        () => {
          hasSucceeded = true;
          succeeded.resolve();
        },
        () => undefined,
      );
      const decided = Promise.race([tried, succeeded.promise]).then(() => true);
      for (let wanted = leastProgress; ; wanted += leastProgress) {
        const isDecided = await Promise.race([decided, clock.sleep(pauseMs, ended).then(() => false)]);
        const now = progress();
        if (isDecided || now - before < wanted) {
          break;
        }
        before = now;
      }
      if (hasSucceeded) {
        break;
      }
    }
    return await Promise.any(running);
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof AggregateError ? error.errors[0] : error;
  } finally {
    over.abort();
    await Promise.allSettled(running);
  }
}
