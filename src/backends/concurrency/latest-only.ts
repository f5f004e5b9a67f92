/** Shares attempts to tell how things are now: one at a time, and the next is for all who came meanwhile. */

/** The attempts of one kind of work. */
export class LatestOnly {
  #running: Promise<void> | undefined;
  #waiting: Promise<void> | undefined;

  /**
   * Does the work after the attempt that is under way, whether that succeeds or not. Callers that come before
   * it begins share it: the first one's work is done.
   */
  async run(work: () => Promise<void>): Promise<void> {
    this.#waiting ??= (this.#running ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => {
        this.#running = this.#waiting;
        this.#waiting = undefined;
        return work();
      });
    await this.#waiting;
  }
}
