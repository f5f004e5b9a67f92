/** Limits concurrency; others wait for their turn. */
import { onAbort } from "../../common/on-abort.ts";

/** A semaphore. */
export class Limiter {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(permits: number) {
    this.#free = permits;
  }

  /** Whether {@link acquire} would have to wait. */
  get isBusy(): boolean {
    return this.#free === 0;
  }

  /** Waits for a turn; disposing ends it. @throws the signal's reason */
  async acquire(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#free > 0) {
      this.#free--;
    } else {
      await this.#turn(signal);
    }
    return { [Symbol.dispose]: () => this.#release() };
  }

  async #turn(signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    using _leaving = onAbort(signal, () => {
      this.#waiting.delete(resolve);
      reject(signal.reason);
    });
    await promise;
  }

  #release(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free++;
    } else {
      this.#waiting.delete(next);
      next();
    }
  }
}
