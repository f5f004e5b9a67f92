/** The most turns of the event loop, in a row, in which those who yield give way to others: few where few of them wait. */
const mostGivenWay = 64;

/**
 * Requests that last begin one by one, each in a turn of the event loop in which nobody else has come, or after some in which
 * somebody has. Who connects behind a thousand followers is accepted, and answered, before they have begun.
 */
export class Yielding {
  readonly #waiting: (() => void)[] = [];
  #hasArrived = false;
  #givenWay = 0;

  /** Somebody has come to whom the others give way in this turn. */
  arrived(): void {
    this.#hasArrived = true;
  }

  /** Waits for a turn, in the order of those who ask. */
  async turn(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    if (this.#waiting.length === 1) {
      this.#awaitTurn();
    }
    await promise;
  }

  #awaitTurn(): void {
    setImmediate(() => {
      if (this.#hasArrived && this.#givenWay < Math.min(this.#waiting.length, mostGivenWay)) {
        this.#hasArrived = false;
        this.#givenWay += 1;
      } else {
        this.#givenWay = 0;
        this.#waiting.shift()?.();
      }
      if (this.#waiting.length > 0) {
        this.#awaitTurn();
      }
    });
  }
}
