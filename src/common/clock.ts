/** Time as a parameter, so that a test controls it. */
import { setTimeout as delay } from "node:timers/promises";

/** Access to time: reading it and waiting. */
export interface Clock {
  /** Wall-clock time in milliseconds since the epoch. */
  nowMs(): number;
  /** Wall-clock time in nanoseconds since the epoch; increases with every call, unless the clock was set back. */
  nowNs(): bigint;
  /**
   * Resolves after `ms` milliseconds.
   *
   * @throws the signal's reason, as soon as it aborts
   */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

const nsPerMs = 1_000_000n;

/**
 * The most that the interpolated clock may differ from the system's before it is synchronized again (the clock was
 * set).
 */
const toleranceNs = 2n * nsPerMs;

/** Milliseconds of the longest of Node's timers: a longer one ends at once. */
const longestTimerMs = 2 ** 31 - 1;

/** The machine's clock. */
export class SystemClock implements Clock {
  /** Wall-clock nanoseconds minus the monotonic clock's; Node has no wall clock finer than a millisecond. */
  #offsetNs = wallNs() - process.hrtime.bigint();
  #lastNs = 0n;

  nowMs(): number {
    return Date.now();
  }

  nowNs(): bigint {
    const wall = wallNs();
    let now = process.hrtime.bigint() + this.#offsetNs;
    if (now < wall - toleranceNs || now > wall + toleranceNs) {
      this.#offsetNs += wall - now;
      now = wall;
    }
    if (now <= this.#lastNs && this.#lastNs - now <= 2n * toleranceNs) {
      now = this.#lastNs + 1n;
    }
    this.#lastNs = now;
    return now;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    try {
      const options = signal === undefined ? {} : { signal };
      let left = ms;
      for (; left > longestTimerMs; left -= longestTimerMs) {
        await delay(longestTimerMs, undefined, options);
      }
      await delay(left, undefined, options);
    } catch (error) {
      // Node wraps the reason in an AbortError of its own.
      throw signal?.aborted === true ? signal.reason : error;
    }
  }
}

/** The clock used outside of tests. */
export const systemClock: Clock = new SystemClock();

function wallNs(): bigint {
  return BigInt(Date.now()) * nsPerMs;
}
