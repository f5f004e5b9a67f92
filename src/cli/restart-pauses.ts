/** Pauses before a process that has ended by itself is started again. */
import { pauseAfter } from "../common/pauses.ts";

/** A process that has run this long is no longer held to its earlier crashes. */
const stableAfterMs = 60_000;

/** Counts the crashes of one process and those that come after it. */
export class RestartPauses {
  #startedAt = Date.now();
  #crashes = 0;

  /** It is started. */
  started(): void {
    this.#startedAt = Date.now();
  }

  /** Counts a crash. @returns milliseconds to wait before it is started again */
  crashed(): number {
    this.#crashes = Date.now() - this.#startedAt > stableAfterMs ? 1 : this.#crashes + 1;
    return pauseAfter(this.#crashes, { firstMs: 100, longestMs: 10_000 });
  }
}
