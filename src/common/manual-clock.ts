/** A clock for tests: it stands still until it is told to move. */
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

  /** @param startMs the time it shows at first, in milliseconds since the epoch */
  constructor(startMs = Date.UTC(2025, 0, 1)) {
    this.#nowNs = BigInt(startMs) * 1_000_000n;
  }

  /** How many sleeps are pending: lets a test wait until the code under test has gone to sleep. */
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

  /** Moves on by `ms` milliseconds, waking in order all whose time has come, and lets what they resolved run. */
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

  #setMs(ms: number): void {
    const ns = BigInt(Math.round(ms)) * 1_000_000n;
    if (ns > this.#nowNs) {
      this.#nowNs = ns;
    }
  }
}

/** Resolves once promise reactions that were waiting, and those that they cause, have run. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
