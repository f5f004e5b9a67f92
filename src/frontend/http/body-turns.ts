/** Pieces of chunked bodies that are parsed in a turn of the event loop: some milliseconds of work. */
const mostPieces = 1_000;

/**
 * Shares the event loop between those who send chunked bodies and everybody else. The parser's work grows with the
 * number of chunks, and a chunk may have one byte.
 */
export class BodyTurns {
  readonly #waiting: (() => void)[] = [];
  #left = mostPieces;
  #isRenewed = false;

  /** True if nothing more is parsed in this turn. */
  get isOver(): boolean {
    return this.#left <= 0;
  }

  /** Counts pieces that were parsed. */
  count(pieces: number): void {
    this.#left -= pieces;
    this.#renewLater();
  }

  /** Calls a function in a later turn, after those that wait already. */
  wait(goOn: () => void): void {
    this.#waiting.push(goOn);
    this.#renewLater();
  }

  #renewLater(): void {
    if (this.#isRenewed) {
      return;
    }
    this.#isRenewed = true;
    setImmediate(() => {
      this.#isRenewed = false;
      this.#left = mostPieces;
      for (let n = this.#waiting.length; n > 0 && !this.isOver; n -= 1) {
        this.#waiting.shift()?.();
      }
      if (this.#waiting.length > 0) {
        this.#renewLater();
      }
    });
  }
}
