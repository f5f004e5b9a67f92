/** Shares an event loop between a crowd and everybody else. */

/**
 * Lets a bounded number of steps begin in each turn of the event loop. Those beyond wait for later turns, in the order in
 * which they asked; in between the event loop does what others wait for.
 */
export class Turns {
  readonly #most: number;
  readonly #waiting: (() => void)[] = [];
  #left: number;
  #isRenewed = false;

  /** @param most steps in a turn */
  constructor(most: number) {
    this.#most = most;
    this.#left = most;
  }

  /** True if no more steps may begin in this turn. */
  get isOver(): boolean {
    return this.#left <= 0;
  }

  /** True if somebody waits. */
  get isAwaited(): boolean {
    return this.#waiting.length > 0;
  }

  /** Counts steps of this turn. */
  count(steps: number): void {
    this.#left -= steps;
    this.#renewLater();
  }

  /** Calls a function in a later turn, after those that wait already. */
  wait(goOn: () => void): void {
    this.#waiting.push(goOn);
    this.#renewLater();
  }

  /** Waits until a step may begin, which counts: not at all while there is room in this turn. */
  async next(): Promise<void> {
    if (!this.isOver) {
      this.count(1);
      return;
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.wait(() => {
      this.count(1);
      resolve();
    });
    await promise;
  }

  #renewLater(): void {
    if (this.#isRenewed) {
      return;
    }
    this.#isRenewed = true;
    setImmediate(() => {
      this.#isRenewed = false;
      this.#left = this.#most;
      for (let n = this.#waiting.length; n > 0 && !this.isOver; n -= 1) {
        this.#waiting.shift()?.();
      }
      if (this.#waiting.length > 0) {
        this.#renewLater();
      }
    });
  }
}
