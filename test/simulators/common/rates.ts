/** A cloud's published request rates, as token buckets. Off until a test turns them on. */
import type { SimulatedClock } from "./clock.ts";

/** A bucket that some operations share. */
export interface Rate {
  /** For {@link Rates.override}. */
  readonly name: string;
  /** `ecs.RunTask`, … */
  readonly operations: readonly string[];
  readonly burst: number;
  readonly perSecond: number;
  /** Tokens that a call takes; 1 where absent. 0: it does not concern this bucket. */
  readonly cost?: (input: unknown) => number;
}

interface Bucket {
  tokens: number;
  /** Simulated milliseconds when the tokens were counted. */
  countedAt: number;
}

/** All buckets of the account in its region. */
export class Rates {
  enabled = false;
  readonly #clock: Pick<SimulatedClock, "nowMs">;
  #rates: readonly Rate[];
  readonly #buckets = new Map<string, Bucket>();

  constructor(clock: Pick<SimulatedClock, "nowMs">, rates: readonly Rate[]) {
    this.#clock = clock;
    this.#rates = rates;
  }

  /** Replaces all rates; their buckets are full then. */
  define(rates: readonly Rate[]): void {
    this.#rates = rates;
    this.#buckets.clear();
  }

  /** Changes a rate; its bucket is full then. */
  override(name: string, rate: { readonly burst: number; readonly perSecond: number }): void {
    if (!this.#rates.some((each) => each.name === name)) {
      throw new Error(`no such rate: ${name}; there are: ${this.#rates.map((each) => each.name).join(", ")}`);
    }
    this.#rates = this.#rates.map((each) => (each.name === name ? { ...each, ...rate } : each));
    this.#buckets.delete(name);
  }

  /** Takes a call's tokens out of all its buckets; undefined, or the name of the first that has too few. */
  take(operation: string, input: unknown): string | undefined {
    if (!this.enabled) {
      return undefined;
    }
    const due = this.#rates
      .filter(({ operations }) => operations.includes(operation))
      .map((rate) => ({ rate, cost: rate.cost?.(input) ?? 1, bucket: this.#bucket(rate) }));
    const empty = due.find(({ cost, bucket }) => bucket.tokens < cost);
    if (empty !== undefined) {
      return empty.rate.name;
    }
    for (const { cost, bucket } of due) {
      bucket.tokens -= cost;
    }
    return undefined;
  }

  #bucket({ name, burst, perSecond }: Rate): Bucket {
    const now = this.#clock.nowMs();
    const bucket = this.#buckets.get(name) ?? { tokens: burst, countedAt: now };
    bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.countedAt) / 1000) * perSecond);
    bucket.countedAt = now;
    this.#buckets.set(name, bucket);
    return bucket;
  }
}
