/** Maximum number of consecutive event-loop turns for which yielding requests wait; lower when few of them wait. */
const mostGivenWay = 64;

/**
 * Starts long requests one by one, each in an event-loop turn without other arrivals, or after a bounded number of
 * turns. A client that connects after a thousand followers is accepted and answered before they have begun.
 */
export class Yielding {
  readonly #waiting: (() => void)[] = [];
  #hasArrived = false;
  #givenWay = 0;

  /** Records an arrival to which others yield in this turn. */
  arrived(): void {
    this.#hasArrived = true;
  }

  /** Waits for a turn, in order of arrival. */
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
