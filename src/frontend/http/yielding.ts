/** Maximum number of consecutive event-loop turns for which yielding requests wait; lower when few of them wait. */
const mostGivenWay = 64;

/** Milliseconds after which a request yields no longer. */
const longestMs = 500;

/** Requests that have waited that long and begin in one turn: some milliseconds of work. */
const lateAtOnce = 16;

/** A request that waits. */
interface Waiter {
  readonly arrived: number;
  readonly begin: () => void;
}

/**
 * Starts long requests one by one, each in an event-loop turn without other arrivals, or after a bounded number of
 * turns. A client that connects after a thousand followers is accepted and answered before they have begun. In a flood of
 * arrivals, those that have waited long begin several at a time.
 */
export class Yielding {
  readonly #waiting: Waiter[] = [];
  readonly #now: () => number;
  #hasArrived = false;
  #givenWay = 0;

  /** @param now milliseconds of a clock that nobody sets */
  constructor(now = (): number => performance.now()) {
    this.#now = now;
  }

  /** Records an arrival to which others yield in this turn. */
  arrived(): void {
    this.#hasArrived = true;
  }

  /** Waits for a turn, in order of arrival. */
  async turn(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ arrived: this.#now(), begin: resolve });
    if (this.#waiting.length === 1) {
      this.#awaitTurn();
    }
    await promise;
  }

  #awaitTurn(): void {
    setImmediate(() => {
      const late = this.#countLate();
      if (late === 0 && this.#hasArrived && this.#givenWay < Math.min(this.#waiting.length, mostGivenWay)) {
        this.#hasArrived = false;
        this.#givenWay += 1;
      } else {
        this.#givenWay = 0;
        for (const { begin } of this.#waiting.splice(0, Math.max(1, late))) {
          begin();
        }
      }
      if (this.#waiting.length > 0) {
        this.#awaitTurn();
      }
    });
  }

  /** The number of those that have waited long, as far as they may begin in this turn. */
  #countLate(): number {
    const before = this.#now() - longestMs;
    const first = this.#waiting.slice(0, lateAtOnce);
    return first.filter(({ arrived }) => arrived < before).length;
  }
}
