/** Waiting for work no longer than a signal allows. */
import { onAbort } from "../../common/on-abort.ts";

/**
 * Waits for work until a signal aborts; then the work goes on behind, and how it ends is nobody's concern here.
 *
 * @throws the signal's reason; what the work throws
 */
export async function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  work.catch(() => undefined); // A failure after the abort has no other handler.
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  using _aborting = onAbort(signal, () => aborted.reject(signal.reason));
  return await Promise.race([work, aborted.promise]);
}
