/** Memory shared by many holders, so that the total does not grow with their number. */

/** One holder gets at most the free bytes divided by this. */
const part = 8;

/**
 * A number of bytes shared by many holders. The limit of each depends on the free bytes, not on the order of arrival: a
 * few get as much as they can use; those that keep theirs leave less to later ones, but never nothing. (Choudhury and
 * Hahne's dynamic thresholds, by which switches share memory among ports.)
 */
export class ByteBudget {
  #free: number;

  /** @param total bytes of all holders together, apart from the guaranteed minimum of each */
  constructor(total: number) {
    this.#free = total;
  }

  /** Counts these bytes as held. */
  take(bytes: number): void {
    this.#free -= bytes;
  }

  /** Counts these bytes as free again. */
  give(bytes: number): void {
    this.#free += bytes;
  }

  /**
   * The bytes that one holder may hold now, between `least` and `most`.
   *
   * @param taking bytes to count as held already
   */
  share(least: number, most: number, taking = 0): number {
    return Math.max(least, Math.min(most, Math.floor((this.#free - taking) / part)));
  }
}
