/** Shares work that brings something up to date: one run at a time; callers during a run share the next. */

/** The runs of one kind of work, with their result. */
export class LatestOnly<T = void> {
  #running: Promise<T> | undefined;
  #waiting: Promise<T> | undefined;

  /** Whether no run has begun or waits that is not over. */
  get isIdle(): boolean {
    return this.#running === undefined && this.#waiting === undefined;
  }

  /**
   * Runs the work after the current run, whether that succeeds or not. Callers that arrive before it starts share it:
   * the first caller's work is the one executed.
   */
  run(work: () => Promise<T>): Promise<T> {
    this.#waiting ??= (this.#running ?? Promise.resolve())
      .catch(() => undefined)
      .then(async () => {
        const run = this.#waiting;
        this.#running = run;
        this.#waiting = undefined;
        try {
          return await work();
        } finally {
          if (this.#running === run) {
            this.#running = undefined;
          }
        }
      });
    return this.#waiting;
  }
}
