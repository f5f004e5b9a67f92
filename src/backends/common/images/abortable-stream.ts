/** Streams from clients that may never end. */

/**
 * The same stream, which fails with the signal's reason as soon as that aborts, even while the source is silent. The
 * source is told to end, and not waited for.
 */
export async function* abortable<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  // One promise for each step: racing against one long-lived promise would keep every chunk in memory.
  let fail: ((reason: unknown) => void) | undefined;
  const abort = (): void => fail?.(signal.reason);
  signal.addEventListener("abort", abort);
  try {
    for (;;) {
      signal.throwIfAborted();
      const next = await new Promise<IteratorResult<T>>((resolve, reject) => {
        fail = reject;
        iterator.next().then(resolve, reject);
      });
      if (next.done === true) {
        return;
      }
      yield next.value;
    }
  } finally {
    signal.removeEventListener("abort", abort);
    iterator.return?.().then(undefined, () => undefined);
  }
}
