/** Tracks since when recurring conditions, such as failures, have lasted. */

interface Spell {
  readonly sinceMs: number;
  readonly lastMs: number;
}

/** Tracks conditions by key. A condition that is not observed for a while has ended. */
export class SinceWhen {
  readonly #forgottenMs: number;
  readonly #spells = new Map<string, Spell>();

  /** @param forgottenMs milliseconds without observation after which a condition has ended */
  constructor(forgottenMs: number) {
    this.#forgottenMs = forgottenMs;
  }

  /** Number of tracked keys. */
  get size(): number {
    return this.#spells.size;
  }

  /** Records an observation. @returns milliseconds for which it has lasted */
  met(key: string, nowMs: number): number {
    for (const [each, { lastMs }] of this.#spells) {
      if (nowMs - lastMs >= this.#forgottenMs) {
        this.#spells.delete(each);
      }
    }
    const { sinceMs } = this.#spells.get(key) ?? { sinceMs: nowMs };
    this.#spells.set(key, { sinceMs, lastMs: nowMs });
    return sinceMs;
  }

  /** Records its end. */
  ended(key: string): void {
    this.#spells.delete(key);
  }
}
