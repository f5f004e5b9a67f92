import { getOrInsert } from "../../common/get-or-insert.ts";

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
 * Starts long requests one by one, of the routes in turn, each in an event-loop turn without other arrivals, or after a
 * bounded number of turns. A client that connects after a thousand followers is accepted and answered before they have
 * begun. In a flood of arrivals, as many begin at a time as have waited long.
 */
export class Yielding {
  /** Those that wait, by route: the next one is of the first. */
  readonly #lines = new Map<unknown, Waiter[]>();
  #waiting = 0;
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

  /** Waits for a turn, in order of arrival at its route. */
  async turn(route: unknown): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    getOrInsert(this.#lines, route, () => []).push({ arrived: this.#now(), begin: resolve });
    this.#waiting += 1;
    if (this.#waiting === 1) {
      this.#awaitTurn();
    }
    await promise;
  }

  #awaitTurn(): void {
    setImmediate(() => {
      const late = this.#countLate();
      if (late === 0 && this.#hasArrived && this.#givenWay < Math.min(this.#waiting, mostGivenWay)) {
        this.#hasArrived = false;
        this.#givenWay += 1;
      } else {
        this.#givenWay = 0;
        for (let n = Math.max(1, late); n > 0; n -= 1) {
          this.#beginNext();
        }
      }
      if (this.#waiting > 0) {
        this.#awaitTurn();
      }
    });
  }

  #beginNext(): void {
    for (const [route, line] of this.#lines) {
      this.#lines.delete(route);
      line.shift()?.begin();
      this.#waiting -= 1;
      if (line.length > 0) {
        this.#lines.set(route, line); // Behind the others.
      }
      return;
    }
  }

  /** The number of those that have waited long, as far as they may begin in this turn. */
  #countLate(): number {
    const before = this.#now() - longestMs;
    const first = [...this.#lines.values()].flatMap((line) => line.slice(0, lateAtOnce));
    return Math.min(first.filter(({ arrived }) => arrived < before).length, lateAtOnce);
  }
}
