/** A counting semaphore that serves waiters in order of arrival. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** @param count number of slots */
  constructor(count: number) {
    this.#free = count;
  }

  /** Waits for a slot; disposing releases it, once. */
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

  /** A released slot passes directly to the longest waiter. */
  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) {
      this.#free += 1;
    } else {
      next();
    }
  }
}
