/** A counting semaphore that serves waiters in order of arrival. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** @param count number of slots */
  constructor(count: number) {
    this.#free = count;
  }

  /**
   * Waits for a slot; disposing releases it, once.
   *
   * @param limitMs milliseconds after which it is released by itself; default: never
   */
  async enter(limitMs?: number): Promise<Disposable> {
    if (this.#free === 0) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#free -= 1;
    }
    let isHeld = true;
    const release = (): void => {
      clearTimeout(limit);
      if (isHeld) {
        isHeld = false;
        this.#leave();
      }
    };
    const limit = limitMs === undefined ? undefined : setTimeout(release, limitMs);
    return { [Symbol.dispose]: release };
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
