/** Seeded choices: the same seed chooses the same again. */
import { createHash } from "node:crypto";

/** A sequence of numbers that its name alone decides. */
export class Random {
  readonly #name: string;
  #drawn = 0;

  /** @param name of the sequence, the seed and what it is for */
  constructor(name: string) {
    this.#name = name;
  }

  /** A whole number from 0 up to a limit that it does not reach. */
  below(limit: number): number {
    const digest = createHash("sha256")
      .update(`${this.#name} ${this.#drawn++}`)
      .digest();
    return digest.readUIntBE(0, 6) % limit;
  }

  /** True this many times of a hundred. */
  percent(share: number): boolean {
    return this.below(100) < share;
  }

  /** One of a list, which must not be empty. */
  pick<T>(list: readonly T[]): T {
    const picked = list[this.below(list.length)];
    if (picked === undefined) {
      throw new Error("there is nothing to pick from");
    }
    return picked;
  }
}
