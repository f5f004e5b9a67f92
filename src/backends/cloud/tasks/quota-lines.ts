/** Starts that the account's quota has no room for, in the order in which they came. */
import { unlessAborted } from "../../concurrency/unless-aborted.ts";

/**
 * Starts of tasks of one size: of all that wait only the first asks the cloud. Each size has a line of its own, since a large
 * task may never fit, and a small one beside it does.
 */
export class QuotaLine {
  /** The cloud's words when it last refused. */
  reason: string = "";
  /** Since when nothing runs whose end would make room, milliseconds since the epoch; undefined: something does. */
  idleSinceMs: number | undefined;
  readonly #emptied: () => void;
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;

  constructor(emptied: () => void) {
    this.#emptied = emptied;
  }

  /** How many starts wait. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Joins the line at its end. */
  join(): PlaceInLine {
    const before = this.#last;
    const left = Promise.withResolvers<void>();
    this.#last = before.then(() => left.promise);
    this.#waiting += 1;
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

/** One start's; it leaves the line when this is disposed. */
export interface PlaceInLine extends Disposable {
  /** Resolves when all that came before have left. @throws the signal's reason */
  turn(signal: AbortSignal): Promise<void>;
}

/** The lines of all sizes, as long as somebody waits. */
export class QuotaLines {
  readonly #lines = new Map<string, QuotaLine>();

  /**
   * The line of a size, which its last start takes away when it leaves: whoever is to join it does so before anything else
   * happens.
   *
   * @param size what tells tasks apart that fit from those that do not: CPU units
   */
  of(size: string): QuotaLine {
    const known = this.#lines.get(size);
    if (known !== undefined) {
      return known;
    }
    const line = new QuotaLine(() => {
      if (this.#lines.get(size) === line) {
        this.#lines.delete(size); // Another may stand for the size by now, with others in it.
      }
    });
    this.#lines.set(size, line);
    return line;
  }
}
