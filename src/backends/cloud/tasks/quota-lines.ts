/** Queues of starts that wait for the account's quota. */
import { unlessAborted } from "../../concurrency/unless-aborted.ts";

/**
 * A queue of starts of one task size, of which only the first one polls the cloud. Each size has its own queue, since a
 * large task may never fit while a small one does.
 */
export class QuotaLine {
  /** The cloud's words of its last refusal. */
  reason: string = "";
  /** Unix milliseconds since which nothing runs whose end would make room; undefined if something does. */
  idleSinceMs: number | undefined;
  readonly #joined: () => void;
  readonly #emptied: () => void;
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;

  /** @param joined called when the first start joins */
  constructor(joined: () => void, emptied: () => void) {
    this.#joined = joined;
    this.#emptied = emptied;
  }

  /** Number of waiting starts. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Joins the queue. */
  join(): PlaceInLine {
    const before = this.#last;
    const left = Promise.withResolvers<void>();
    this.#last = before.then(() => left.promise);
    this.#waiting += 1;
    if (this.#waiting === 1) {
      this.#joined();
    }
    return {
      turn: (signal) => unlessAborted(signal, before),
      [Symbol.dispose]: () => {
        left.resolve();
        this.#waiting -= 1;
        if (this.#waiting === 0) {
          this.#emptied();
        }
      },
    };
  }
}

/** One start's place, which it leaves when disposed. */
export interface PlaceInLine extends Disposable {
  /** Resolves when all earlier ones have left. @throws the signal's reason */
  turn(signal: AbortSignal): Promise<void>;
}

/** The non-empty queues of all sizes. */
export class QuotaLines {
  readonly #lines = new Map<string, QuotaLine>();

  /** Number of queues. */
  get size(): number {
    return this.#lines.size;
  }

  /** Whether any start waits. */
  get isAnyWaiting(): boolean {
    return this.size > 0;
  }

  /**
   * The queue of a size, which its first start adds when it joins, and its last one removes when it leaves: callers must
   * join it synchronously.
   *
   * @param size the size class of tasks: CPU units
   */
  of(size: string): QuotaLine {
    const known = this.#lines.get(size);
    if (known !== undefined) {
      return known;
    }
    // The queue of this size may be another one by then.
    const line: QuotaLine = new QuotaLine(
      () => this.#lines.set(size, this.#lines.get(size) ?? line),
      () => {
        if (this.#lines.get(size) === line) {
          this.#lines.delete(size);
        }
      },
    );
    return line;
  }
}
