import { onAbort } from "../../common/on-abort.ts";

export interface SlotOptions {
  /** Milliseconds after which a slot is released by itself; default: never. */
  readonly limitMs?: number;
  /** Ends the wait for a slot. */
  readonly signal?: AbortSignal;
  /** Asked whenever a slot is free: the waiter with the smallest is served. Default: 0. */
  readonly order?: () => number;
}

/** A counting semaphore that serves waiters of the same order as they arrive. */
export class Slots {
  #free: number;
  readonly #waiting = new Map<() => void, () => number>();

  /** @param count number of slots */
  constructor(count: number) {
    this.#free = count;
  }

  /**
   * Waits for a slot; disposing releases it, once.
   *
   * @throws the signal's reason
   */
  async enter({ limitMs, signal, order = () => 0 }: SlotOptions = {}): Promise<Disposable> {
    signal?.throwIfAborted();
    if (this.#free === 0) {
      const turn = Promise.withResolvers<void>();
      this.#waiting.set(turn.resolve, order);
      using _leaving = onAbort(signal, () => {
        this.#waiting.delete(turn.resolve);
        turn.reject(signal?.reason);
      });
      await turn.promise;
    } else {
      this.#free -= 1;
    }
    let isHeld = true;
    const release = (): void => {
      clearTimeout(limit);
      if (isHeld) {
        isHeld = false;
        this.#leave();
      }
    };
    const limit = limitMs === undefined ? undefined : setTimeout(release, limitMs);
    return { [Symbol.dispose]: release };
  }

  /** A released slot passes directly to the next waiter. */
  #leave(): void {
    if (this.#waiting.size === 0) {
      this.#free += 1;
      return;
    }
    const [next] = [...this.#waiting]
      .map(([enter, order]) => [enter, order()] as const)
      .reduce((first, each) => (each[1] < first[1] ? each : first));
    this.#waiting.delete(next);
    next();
  }
}
