/** Shares an event loop between a crowd and everybody else. */

/**
 * Lets a bounded number of steps begin in each turn of the event loop. Those beyond wait for later turns, in the order in
 * which they asked; in between the event loop does what others wait for.
 */
export class Turns {
  readonly #most: number;
  readonly #waiting: (() => void)[] = [];
  #begun = 0;
  #isRenewed = false;

  /** @param most steps in a turn */
  constructor(most: number) {
    this.#most = most;
  }

  /** Waits until a step may begin: not at all while there is room in this turn. */
  async next(): Promise<void> {
    this.#renewLater();
    if (this.#begun < this.#most) {
      this.#begun += 1;
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    await promise;
  }

  #renewLater(): void {
    if (this.#isRenewed) {
      return;
    }
    this.#isRenewed = true;
    setImmediate(() => {
      this.#isRenewed = false;
      const begin = this.#waiting.splice(0, this.#most);
      this.#begun = begin.length;
      for (const each of begin) {
        each();
      }
      if (begin.length > 0) {
        this.#renewLater();
      }
    });
  }
}
