/** Values for whoever listens at the time; each listener gets all from then on, in order. */
export class Broadcast<T> {
  readonly #listeners = new Set<(value: T) => void>();

  send(value: T): void {
    for (const listener of this.#listeners) {
      listener(value);
    }
  }

  /** Listens at once; the stream ends, without an error, behind what came until the signal aborted. */
  listen(signal: AbortSignal): AsyncIterable<T> {
    const queue: T[] = [];
    let wake = Promise.withResolvers<void>();
    const listener = (value: T): void => {
      queue.push(value);
      wake.resolve();
    };
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => wake.resolve(), { once: true });
    const listeners = this.#listeners;
    async function* read(): AsyncGenerator<T> {
      try {
        for (;;) {
          yield* queue.splice(0);
          if (queue.length > 0) {
            continue;
          }
          if (signal.aborted) {
            return;
          }
          await wake.promise;
          wake = Promise.withResolvers<void>();
        }
      } finally {
        listeners.delete(listener);
      }
    }
    return read();
  }
}
