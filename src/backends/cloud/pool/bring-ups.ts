/** How long prepared tasks take until their agents answer, learned from recent ones. */

/** Number of remembered tasks. */
const remembered = 20;
/** Assumed duration until the first task has come up. */
const assumedMs = 35_000;
/** Factor of the expected time after which a task is late. */
const lateFactor = 1.5;

/** Durations of recent tasks. */
export class BringUps {
  readonly #last: { readonly shape: string; readonly ms: number }[] = [];

  /** Records how long a task took. */
  add(shape: string, ms: number): void {
    this.#last.push({ shape, ms });
    this.#last.splice(0, this.#last.length - remembered);
  }

  /** The age after which a task of a shape is late: it is no longer expected to come up soon. */
  lateAfterMs(shape: string): number {
    return this.#expectedMs(shape) * lateFactor;
  }

  /** The median of recent tasks of a shape, or of all shapes if there was none. */
  #expectedMs(shape: string): number {
    const alike = this.#last.filter((each) => each.shape === shape);
    const times = (alike.length > 0 ? alike : this.#last)
      .map(({ ms }) => ms)
      .sort((one, other) => one - other);
    return times[Math.floor(times.length / 2)] ?? assumedMs;
  }
}
