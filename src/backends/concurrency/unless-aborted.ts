import { onAbort } from "../../common/on-abort.ts";

/** Those who wait for a promise until it settles; until then it would keep what waits for it by itself. */
const waiting = new WeakMap<Promise<unknown>, Set<() => void>>();

/**
 * Waits for work until a signal aborts; the work then continues in the background, its result is ignored, and it keeps
 * nothing of the wait.
 *
 * @throws the signal's reason; the work's error
 */
export async function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const waiters = waitersFor(work);
  signal.throwIfAborted();
  const { promise: settled, resolve, reject } = Promise.withResolvers<void>();
  waiters.add(resolve);
  using _aborting = onAbort(signal, () => reject(signal.reason));
  try {
    await settled;
  } finally {
    waiters.delete(resolve);
  }
  return await work;
}

function waitersFor(work: Promise<unknown>): Set<() => void> {
  const known = waiting.get(work);
  if (known !== undefined) {
    return known;
  }
  const waiters = new Set<() => void>();
  waiting.set(work, waiters);
  const wake = (): void => {
    waiting.delete(work);
    for (const settle of waiters) {
      settle();
    }
  };
  work.then(wake, wake); // A failure after the abort has no other handler.
  return waiters;
}
