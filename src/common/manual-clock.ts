/** A clock for tests that only moves when told to. */
import type { Clock } from "./clock.ts";
import { onAbort } from "./on-abort.ts";

interface Sleeper {
  readonly wakeAtMs: number;
  readonly wake: () => void;
}

/** A {@link Clock} that moves only by {@link ManualClock.advance}. */
export class ManualClock implements Clock {
  #nowNs: bigint;
  readonly #sleepers = new Set<Sleeper>();

  /** @param startMs initial time, in milliseconds since the epoch */
  constructor(startMs = Date.UTC(2025, 0, 1)) {
    this.#nowNs = BigInt(startMs) * 1_000_000n;
  }

  /** Number of pending sleeps: lets a test wait until the code under test sleeps. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  nowMs(): number {
    return Number(this.#nowNs / 1_000_000n);
  }

  nowNs(): bigint {
    return this.#nowNs++;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const sleeper: Sleeper = { wakeAtMs: this.nowMs() + ms, wake: resolve };
    this.#sleepers.add(sleeper);
    const leaving = onAbort(signal, () => {
      this.#sleepers.delete(sleeper);
      reject(signal?.reason);
    });
    return promise.finally(() => leaving[Symbol.dispose]());
  }

  /** Advances by `ms` milliseconds, wakes due sleepers in order, and lets their continuations run. */
  async advance(ms: number): Promise<void> {
    const end = this.nowMs() + ms;
    for (;;) {
      const next = [...this.#sleepers].sort((a, b) => a.wakeAtMs - b.wakeAtMs)[0];
      if (next === undefined || next.wakeAtMs > end) {
        break;
      }
      this.#sleepers.delete(next);
      this.#setMs(Math.max(next.wakeAtMs, this.nowMs()));
      next.wake();
      await settle();
    }
    this.#setMs(end);
    await settle();
  }

  /** Advances, a tenth of a second at a time, until a promise has settled. */
  async settled<T>(promise: Promise<T>): Promise<T> {
    let open = true;
    const close = (): void => {
      open = false;
    };
    promise.then(close, close);
    while (open) {
      await this.advance(100);
    }
    return await promise;
  }

  #setMs(ms: number): void {
    const ns = BigInt(Math.round(ms)) * 1_000_000n;
    if (ns > this.#nowNs) {
      this.#nowNs = ns;
    }
  }
}

/** Resolves after pending promise reactions, and those that they trigger, have run. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
