/** Prunes of one kind of object: a second one at the same time is refused, as in Docker. */
import { conflict } from "../../common/errors.ts";

/** Lets one piece of work through at a time. */
export class OneAtATime {
  #isBusy = false;

  /** @throws conflict: other work is under way; what the work throws */
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
