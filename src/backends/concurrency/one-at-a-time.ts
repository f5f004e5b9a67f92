/** Prunes of one kind of object: a concurrent second one is refused, as in Docker. */
import { conflict } from "../../common/errors.ts";

/** Admits one piece of work at a time. */
export class OneAtATime {
  #isBusy = false;

  /** @throws conflict if other work is running; the work's error */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isBusy) {
      throw conflict("a prune operation is already running");
    }
    this.#isBusy = true;
    try {
      return await work();
    } finally {
      this.#isBusy = false;
    }
  }
}
