/** Starts whose launch has returned but whose process is not recorded as running yet. */

/** How a start has lost its agent. */
interface LostStart {
  readonly failure: Error;
  /** Whether its task has ended, so that another one is needed. */
  readonly hasEnded: boolean;
  /** Whether only that agent may be told again, as it may have begun the command. */
  readonly needsSameAgent: boolean;
}

/** The remaining limits of a start. */
export interface InterruptedStart {
  readonly generation: bigint;
  /** Number of failed tries. */
  readonly failures: number;
  /** When its time limit passes, on the backend's clock. */
  readonly endsAtMs: number;
  /** Set if another launch is needed: the agent of the last one did not answer. */
  lost: LostStart | undefined;
}

/**
 * Keeps the remaining limits of starts from one launch to the next. In memory only: a start that a later process
 * resumes has its full limits.
 */
export class InterruptedStarts {
  readonly #starts = new Map<string, InterruptedStart>();

  /** The start of this generation; undefined if it was not launched before. */
  of(containerId: string, generation: bigint): InterruptedStart | undefined {
    const start = this.#starts.get(containerId);
    return start?.generation === generation ? start : undefined;
  }

  /** Records a launch that has returned. */
  launched(containerId: string, start: Omit<InterruptedStart, "lost">): void {
    this.#starts.set(containerId, { ...start, lost: undefined });
  }

  /** Drops a completed start. */
  forget(containerId: string): void {
    this.#starts.delete(containerId);
  }
}
