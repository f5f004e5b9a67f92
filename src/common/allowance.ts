/** A number of events at once, which grows back with time. */
export class Allowance {
  readonly #most: number;
  readonly #refillMs: number;
  #left: number;
  #refilledAt = performance.now();

  /**
   * @param most the largest burst
   * @param refillMs milliseconds after which one more is granted
   */
  constructor(most: number, refillMs: number) {
    this.#most = most;
    this.#refillMs = refillMs;
    this.#left = most;
  }

  /** Counts an event. @returns false if it is one too many */
  take(): boolean {
    const now = performance.now();
    this.#left = Math.min(this.#most, this.#left + (now - this.#refilledAt) / this.#refillMs) - 1;
    this.#refilledAt = now;
    return this.#left >= 0;
  }

  /** Milliseconds until an event is granted; 0: it is now. */
  get waitMs(): number {
    return Math.max(0, (1 - this.#left) * this.#refillMs - (performance.now() - this.#refilledAt));
  }
}

/** The pings and pongs that a WebSocket's peer may send: 20 at once, and one a second; one in 20 s or so is usual. */
export const pingAllowance = (): Allowance => new Allowance(20, 1_000);
