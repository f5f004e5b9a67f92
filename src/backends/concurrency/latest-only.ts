/** Shares work that brings something up to date: one run at a time; callers during a run share the next. */

/** The runs of one kind of work. */
export class LatestOnly {
  #running: Promise<void> | undefined;
  #waiting: Promise<void> | undefined;

  /**
   * Runs the work after the current run, whether that succeeds or not. Callers that arrive before it starts share it:
   * the first caller's work is the one executed.
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
