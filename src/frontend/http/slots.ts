/** A counting semaphore whose waiters may have an order. */
import { onAbort } from "../../common/on-abort.ts";

/** Options of {@link Slots.enter}. */
export interface SlotOptions {
  /** Milliseconds after which a slot is released by itself; default: never. */
  readonly limitMs?: number;
  /** Ends the wait for a slot. */
  readonly signal?: AbortSignal;
  /** Rank, evaluated whenever a slot is free; the lowest is served. Unless all waiters have one, in order of arrival. */
  readonly order?: () => number;
}

/** A counting semaphore that serves waiters of the same order as they arrive. */
export class Slots {
  #free: number;
  readonly #waiting = new Map<() => void, (() => number) | undefined>();

  /** @param count number of slots */
  constructor(count: number) {
    this.#free = count;
  }

  /**
   * Waits for a slot; disposing releases it, once.
   *
   * @throws the signal's reason
   */
  async enter({ limitMs, signal, order }: SlotOptions = {}): Promise<Disposable> {
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
    const next = this.#next();
    if (next === undefined) {
      this.#free += 1;
    } else {
      this.#waiting.delete(next);
      next();
    }
  }

  #next(): (() => void) | undefined {
    let lowest = Number.POSITIVE_INFINITY;
    let next: (() => void) | undefined;
    for (const [enter, order] of this.#waiting) {
      if (order === undefined) {
        return enter;
      }
      const rank = order();
      if (rank < lowest) {
        [lowest, next] = [rank, enter];
      }
    }
    return next;
  }
}
