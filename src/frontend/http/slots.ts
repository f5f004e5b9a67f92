/** A number of places, which are taken in the order in which they are asked for. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** @param count of the places */
  constructor(count: number) {
    this.#free = count;
  }

  /** Waits for a place; disposing gives it back, once. */
  async enter(): Promise<Disposable> {
    if (this.#free === 0) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#free -= 1;
    }
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) {
          isHeld = false;
          this.#leave();
        }
      },
    };
  }

  /** A place goes to who waits longest without being free in between. */
  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) {
      this.#free += 1;
    } else {
      next();
    }
  }
}
