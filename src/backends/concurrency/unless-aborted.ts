import { onAbort } from "../../common/on-abort.ts";

/**
 * Waits for work until a signal aborts; the work then continues in the background, and its result is ignored.
 *
 * @throws the signal's reason; the work's error
 */
export async function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  work.catch(() => undefined); // A failure after the abort has no other handler.
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  using _aborting = onAbort(signal, () => aborted.reject(signal.reason));
  return await Promise.race([work, aborted.promise]);
}
