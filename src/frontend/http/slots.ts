/** A weighted semaphore whose waiters may have an order. */
import { getOrInsert } from "../../common/get-or-insert.ts";
import { onAbort } from "../../common/on-abort.ts";

/** Options of {@link Slots.enter}. */
export interface SlotOptions {
  /** Units that are taken, at most all; default: 1. */
  readonly weight?: number;
  /** Milliseconds after which a slot is released by itself; default: never. */
  readonly limitMs?: number;
  /** Ends the wait for a slot. */
  readonly signal?: AbortSignal;
  /** Rank, evaluated whenever units are free; the lowest is served. Unless all waiters have one, in order of arrival. */
  readonly order?: () => number;
  /**
   * Waiters with the same one have the same rank, and only the next of them is asked for it; it is the first and the last
   * of them by turns. Lines of the same rank take turns. Default: a line for each.
   */
  readonly line?: unknown;
  /** Called once, when the slot is given, before the next one is. */
  readonly taken?: () => void;
  /** Called once, when the slot is released, before it is given on. */
  readonly returned?: () => void;
}

/** Units that are taken. Disposing returns them, once. */
export interface Slot extends Disposable {
  /** Returns the units above `weight`. */
  reduceTo(weight: number): void;
}

/** The line of those without an order. */
const unordered = Symbol("unordered");

interface Waiter {
  readonly line: unknown;
  readonly weight: number;
  readonly order: (() => number) | undefined;
  readonly enter: () => void;
}

/** Those that wait, in order of arrival, which have a rank and are served from both ends, or have none. */
interface Line {
  readonly waiting: Waiter[];
  isLastNext: boolean;
}

/** A weighted semaphore. Whoever is next keeps others waiting. */
export class Slots {
  #free: number;
  readonly #lines = new Map<unknown, Line>();
  #isServing = false;

  /** @param count number of units */
  constructor(count: number) {
    this.#free = count;
  }

  /**
   * Waits for units.
   *
   * @throws the signal's reason
   */
  async enter(options: SlotOptions = {}): Promise<Slot> {
    const { weight = 1, limitMs, signal, order, taken, returned } = options;
    signal?.throwIfAborted();
    const turn = Promise.withResolvers<void>();
    const enter = (): void => {
      taken?.();
      turn.resolve();
    };
    const line = options.line ?? (order === undefined ? unordered : enter);
    const waiter = { line, weight, order, enter };
    getOrInsert(this.#lines, line, () => ({ waiting: [], isLastNext: false })).waiting.push(waiter);
    this.#serve();
    using _leaving = onAbort(signal, () => {
      if (this.#leave(waiter)) {
        turn.reject(signal?.reason);
        this.#serveLater();
      }
    });
    await turn.promise;
    let held = weight;
    const reduceTo = (kept: number): void => {
      const rest = Math.min(held, kept);
      this.#free += held - rest;
      held = rest;
      this.#serveLater();
    };
    const release = (): void => {
      clearTimeout(limit);
      if (held > 0) {
        returned?.();
      }
      reduceTo(0);
    };
    const limit = limitMs === undefined ? undefined : setTimeout(release, limitMs);
    return { reduceTo, [Symbol.dispose]: release };
  }

  /** In a later turn of the event loop: of a crowd that leaves together each is heard of by itself. */
  #serveLater(): void {
    if (this.#lines.size > 0 && !this.#isServing) {
      this.#isServing = true;
      setImmediate(() => {
        this.#isServing = false;
        this.#serve();
      });
    }
  }

  #serve(): void {
    while (this.#free > 0) {
      const next = this.#next();
      if (next === undefined || next.weight > this.#free) {
        return;
      }
      this.#free -= next.weight;
      this.#leave(next);
      this.#turn(next.line);
      next.enter();
    }
  }

  /** @returns false if it waits no longer */
  #leave(waiter: Waiter): boolean {
    const waiting = this.#lines.get(waiter.line)?.waiting ?? [];
    const index = waiting.lastIndexOf(waiter);
    if (index >= 0) {
      waiting.splice(index, 1);
      if (waiting.length === 0) {
        this.#lines.delete(waiter.line);
      }
    }
    return index >= 0;
  }

  /** Puts a line behind the others; the next of it comes from its other end. */
  #turn(key: unknown): void {
    const line = this.#lines.get(key);
    if (line !== undefined) {
      line.isLastNext = !line.isLastNext;
      this.#lines.delete(key);
      this.#lines.set(key, line);
    }
  }

  #next(): Waiter | undefined {
    let lowest = Number.POSITIVE_INFINITY;
    let next: Waiter | undefined;
    for (const { waiting, isLastNext } of this.#lines.values()) {
      const [first] = waiting;
      if (first?.order === undefined) {
        return first;
      }
      const rank = first.order();
      if (rank < lowest) {
        [lowest, next] = [rank, isLastNext ? waiting.at(-1) : first];
      }
    }
    return next;
  }
}
