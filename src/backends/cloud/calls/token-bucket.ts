import type { Clock } from "../../../common/clock.ts";
import { onAbort } from "../../../common/on-abort.ts";

/** A rate limit. */
export interface Rate {
  /** Maximum number at once after a pause. */
  readonly burst: number;
  /** Average number per second. */
  readonly perSecond: number;
}

interface Waiter {
  readonly priority: number;
  readonly resolve: () => void;
}

/** Issues tokens at a rate: lowest priority number first, then in order of arrival. */
export class TokenBucket {
  readonly #rate: Rate;
  readonly #clock: Clock;
  #tokens: number;
  #filledAtMs: number;
  #waiters: Waiter[] = [];
  #serving: boolean = false;

  constructor(rate: Rate, clock: Clock) {
    this.#rate = rate;
    this.#clock = clock;
    this.#tokens = rate.burst;
    this.#filledAtMs = clock.nowMs();
  }

  /**
   * Takes a token, waiting for it.
   *
   * @param priority 0 is served first
   * @throws the signal's reason
   */
  take(priority: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.#fill();
    if (this.#waiters.length === 0 && this.#tokens >= 1) {
      this.#tokens -= 1;
      return Promise.resolve();
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter = { priority, resolve };
    const before = this.#waiters.findIndex((other) => other.priority > priority);
    this.#waiters.splice(before === -1 ? this.#waiters.length : before, 0, waiter);
    const leaving = onAbort(signal, () => {
      this.#waiters = this.#waiters.filter((other) => other !== waiter);
      reject(signal?.reason);
    });
    void this.#serve();
    return promise.finally(() => leaving[Symbol.dispose]());
  }

  /** Empties the bucket: others have used up the account's rate. */
  drain(): void {
    this.#fill();
    this.#tokens = Math.min(this.#tokens, 0);
  }

  async #serve(): Promise<void> {
    if (this.#serving) {
      return;
    }
    this.#serving = true;
    try {
      while (this.#waiters.length > 0) {
        this.#fill();
        if (this.#tokens < 1) {
          await this.#clock.sleep(Math.ceil(((1 - this.#tokens) / this.#rate.perSecond) * 1000));
          continue;
        }
        this.#tokens -= 1;
        this.#waiters.shift()?.resolve();
      }
    } finally {
      this.#serving = false;
    }
  }

  #fill(): void {
    const now = this.#clock.nowMs();
    const elapsed = Math.max(0, now - this.#filledAtMs); // A clock that was set back adds no tokens.
    this.#tokens = Math.min(this.#rate.burst, this.#tokens + (elapsed / 1000) * this.#rate.perSecond);
    this.#filledAtMs = now;
  }
}
