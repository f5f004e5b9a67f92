/** Streams from clients, which may never end. */
import { unlessAborted } from "../concurrency/unless-aborted.ts";

/**
 * The same stream, but it fails with the signal's reason as soon as that aborts, even while the source is silent. The
 * source is asked to end, without waiting for it.
 */
export async function* abortable<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      signal.throwIfAborted();
      const next = await unlessAborted(signal, iterator.next());
      if (next.done === true) {
        return;
      }
      yield next.value;
    }
  } finally {
    iterator.return?.().then(undefined, () => undefined);
  }
}
