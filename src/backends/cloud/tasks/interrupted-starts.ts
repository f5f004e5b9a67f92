/** Starts between a launch that has returned and the record that their process runs. */

/** Limits of a start, as far as it has not used them. */
export interface InterruptedStart {
  readonly generation: bigint;
  /** Failed tries. */
  readonly failures: number;
  /** Milliseconds of its time. */
  readonly leftMs: number;
  /** Why another launch is needed: the agent of the last one was lost. */
  lost: Error | undefined;
}

/** Keeps limits of starts from one launch to the next, in memory only: a start that a later process takes up has all of them. */
export class InterruptedStarts {
  readonly #starts = new Map<string, InterruptedStart>();

  /** The start of this generation; undefined: its launch is its first. */
  of(containerId: string, generation: bigint): InterruptedStart | undefined {
    const start = this.#starts.get(containerId);
    return start?.generation === generation ? start : undefined;
  }

  /** Notes a launch that has returned. */
  launched(containerId: string, start: Omit<InterruptedStart, "lost">): void {
    this.#starts.set(containerId, { ...start, lost: undefined });
  }

  /** Forgets a start that is over. */
  forget(containerId: string): void {
    this.#starts.delete(containerId);
  }
}
