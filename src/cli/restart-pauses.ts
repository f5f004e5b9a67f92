/** Pauses before a crashed process is restarted. */
import { pauseAfter } from "../common/pauses.ts";

/** Run time after which earlier crashes of a process no longer count. */
const stableAfterMs = 60_000;

/** Counts the crashes of a process and its successors. */
export class RestartPauses {
  #startedAt = Date.now();
  #crashes = 0;

  /** Records that the process was started. */
  started(): void {
    this.#startedAt = Date.now();
  }

  /** Counts a crash. @returns milliseconds to wait before the restart */
  crashed(): number {
    this.#crashes = Date.now() - this.#startedAt > stableAfterMs ? 1 : this.#crashes + 1;
    return pauseAfter(this.#crashes, { firstMs: 100, longestMs: 10_000 });
  }
}
