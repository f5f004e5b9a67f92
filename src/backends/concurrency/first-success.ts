/** Several ways to one result, of which some may hang. */
import type { Clock } from "../../common/clock.ts";

/** A way to the result; ends soon once the signal aborts. */
export type Attempt<T> = (signal: AbortSignal) => Promise<T>;

/**
 * Runs attempts in order until one succeeds: the next one when the last has failed, or beside it after `pauseMs`
 * milliseconds. The success aborts the others and waits for their end.
 *
 * @param attempts at least one
 * @throws the first one's error if all fail; the signal's reason
 */
export async function firstSuccess<T>(
  attempts: readonly Attempt<T>[],
  { clock, pauseMs }: { readonly clock: Clock; readonly pauseMs: number },
  signal: AbortSignal,
): Promise<T> {
  const over = new AbortController();
  const ended = AbortSignal.any([signal, over.signal]);
  const succeeded = Promise.withResolvers<void>();
  const running: Promise<T>[] = [];
  let hasSucceeded: boolean = false;
  try {
    for (const attempt of attempts) {
      signal.throwIfAborted();
      const latest = attempt(ended);
      running.push(latest);
      const tried = latest.then(
        () => {
          hasSucceeded = true;
          succeeded.resolve();
        },
        () => undefined,
      );
      await Promise.race([tried, succeeded.promise, clock.sleep(pauseMs, ended)]);
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
