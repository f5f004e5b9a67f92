/** Memory that many share, so that it is not multiplied by their number. */

/** The divisor of what is free that one may hold. */
const part = 8;

/**
 * A number of bytes that many hold together. What one may hold follows from what is free, not from the order
 * of arrival: a few get as much as they can use, and those that hold on to theirs leave less to the next, but
 * never nothing. (Choudhury and Hahne's dynamic thresholds, as switches share their memory among ports.)
 */
export class ByteBudget {
  #free: number;

  /** @param total bytes that all hold together, beside the least that each is sure of */
  constructor(total: number) {
    this.#free = total;
  }

  /** Notes that somebody holds so many bytes more. */
  take(bytes: number): void {
    this.#free -= bytes;
  }

  /** Notes that they are free again. */
  give(bytes: number): void {
    this.#free += bytes;
  }

  /**
   * How many bytes one may hold now, between `least` and `most`.
   *
   * @param taking as if so many bytes more were held
   */
  share(least: number, most: number, taking = 0): number {
    return Math.max(least, Math.min(most, Math.floor((this.#free - taking) / part)));
  }
}
