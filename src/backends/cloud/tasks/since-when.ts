/** Times since when something has lasted that is met again and again, such as a failure. */

interface Spell {
  readonly sinceMs: number;
  readonly lastMs: number;
}

/** Remembers by key since when something lasts. One that nobody has met again for a while has ended meanwhile. */
export class SinceWhen {
  readonly #forgottenMs: number;
  readonly #spells = new Map<string, Spell>();

  /** @param forgottenMs a spell is over once it was not met for so long, milliseconds */
  constructor(forgottenMs: number) {
    this.#forgottenMs = forgottenMs;
  }

  /** Number of keys that are remembered. */
  get size(): number {
    return this.#spells.size;
  }

  /** Notes that it is met. @returns since when it has lasted, milliseconds */
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

  /** Notes that it has ended. */
  ended(key: string): void {
    this.#spells.delete(key);
  }
}
