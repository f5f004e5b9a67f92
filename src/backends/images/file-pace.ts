/** Shares the event loop between looks at many files, or names of images, and everything else. */
import { Turns } from "../../common/turns.ts";

/** Files of a step: a few milliseconds of work. */
export const stepFiles = 1_000;

/** Steps of all looks together. */
const steps = new Turns(1);

/** The pace of one look, over all its passes. */
export class FilePace {
  readonly #signal: AbortSignal;
  #left = 0;

  /** @param signal ends the look with its reason */
  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  /** Waits for a turn once a step of files has been handled. @throws the signal's reason */
  async spend(files: number): Promise<void> {
    this.#left -= files;
    if (this.#left < 0) {
      await steps.next();
      this.#signal.throwIfAborted();
      this.#left = stepFiles;
    }
  }
}
