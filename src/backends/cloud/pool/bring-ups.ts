/** How long prepared tasks take until their agents answer, learned from the last ones. */

/** Number of tasks that are remembered. */
const remembered = 20;
/** The assumption until the first has come up. */
const assumedMs = 35_000;
/** A task is late after so many times the expected time. */
const lateFactor = 1.5;

/** Times of the last tasks. */
export class BringUps {
  readonly #last: { readonly shape: string; readonly ms: number }[] = [];

  /** Tells how long a task took. */
  add(shape: string, ms: number): void {
    this.#last.push({ shape, ms });
    this.#last.splice(0, this.#last.length - remembered);
  }

  /** The age from which a task of a shape that has not come up cannot be expected to do so soon. */
  lateAfterMs(shape: string): number {
    return this.#expectedMs(shape) * lateFactor;
  }

  /** The median of the last tasks of a shape, or of all if there was none. */
  #expectedMs(shape: string): number {
    const alike = this.#last.filter((each) => each.shape === shape);
    const times = (alike.length > 0 ? alike : this.#last)
      .map(({ ms }) => ms)
      .sort((one, other) => one - other);
    return times[Math.floor(times.length / 2)] ?? assumedMs;
  }
}
