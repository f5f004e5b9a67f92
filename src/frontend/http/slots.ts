import { onAbort } from "../../common/on-abort.ts";

export interface SlotOptions {
  /** Milliseconds after which a slot is released by itself; default: never. */
  readonly limitMs?: number;
  /** Ends the wait for a slot. */
  readonly signal?: AbortSignal;
}

/** A counting semaphore that serves waiters in order of arrival. */
export class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  /** @param count number of slots */
  constructor(count: number) {
    this.#free = count;
  }

  /**
   * Waits for a slot; disposing releases it, once.
   *
   * @throws the signal's reason
   */
  async enter({ limitMs, signal }: SlotOptions = {}): Promise<Disposable> {
    signal?.throwIfAborted();
    if (this.#free === 0) {
      const turn = Promise.withResolvers<void>();
      this.#waiting.add(turn.resolve);
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

  /** A released slot passes directly to the longest waiter. */
  #leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
    } else {
      this.#waiting.delete(next);
      next();
    }
  }
}
