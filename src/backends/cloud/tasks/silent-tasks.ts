/** Tasks of which neither their agents nor the cloud tell. */
import type { Clock } from "../../../common/clock.ts";

/** As long as an agent cannot be reached, the end of its run is asked for at least so often. */
const askedWithinMs = 120_000;
/** A container may go on while its agent is cut off, and the cloud may be wrong about it for a while; not for so long. */
const silenceLimitMs = 600_000;

interface Silence {
  readonly sinceMs: number;
  readonly lastMs: number;
}

/** How long each task has been silent. */
export class SilentTasks {
  readonly #clock: Clock;
  readonly #silences = new Map<string, Silence>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The cloud tells of a task. */
  told(task: string): void {
    this.#silences.delete(task);
  }

  /**
   * The cloud has been asked for a task whose agent does not answer, and tells nothing.
   *
   * @returns whether that has lasted so long that the task is given up
   */
  untold(task: string): boolean {
    const nowMs = this.#clock.nowMs();
    const before = this.#silences.get(task);
    const sinceMs = before !== undefined && nowMs - before.lastMs <= askedWithinMs ? before.sinceMs : nowMs;
    this.#silences.set(task, { sinceMs, lastMs: nowMs });
    return nowMs - sinceMs >= silenceLimitMs;
  }
}
