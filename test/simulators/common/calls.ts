/** The log of calls, for assertions about what was asked of the cloud and how often. */

/** One call that reached the simulator. */
export interface LoggedCall {
  /** `ecs`, `logs`, … */
  readonly service: string;
  readonly operation: string;
  /** ARN of the caller. */
  readonly principal: string;
  readonly requestId: string;
  /** As the service read it. */
  readonly input: unknown;
  /** HTTP status; 0 where the connection was cut on purpose. */
  readonly status: number;
  /** The error's code, where the call failed. */
  readonly error?: string;
  /** Simulated milliseconds since the epoch, at arrival. */
  readonly at: number;
  /** How long the answer took, in real milliseconds. */
  readonly tookMs: number;
}

/** Every call since the start or the last {@link clear}. */
export class CallLog {
  #calls: LoggedCall[] = [];

  /** All calls, in the order of their answers; those of one operation where one is named (`ecs.RunTask`). */
  all(name?: string): readonly LoggedCall[] {
    return name === undefined
      ? this.#calls
      : this.#calls.filter((call) => `${call.service}.${call.operation}` === name);
  }

  /** How many calls of an operation (`ecs.RunTask`), or in all. */
  count(name?: string): number {
    return this.all(name).length;
  }

  /** Counts by operation (`ecs.RunTask`), for printing. */
  counts(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { service, operation } of this.#calls) {
      const name = `${service}.${operation}`;
      counts[name] = (counts[name] ?? 0) + 1;
    }
    return counts;
  }

  /** Begins anew. */
  clear(): void {
    this.#calls = [];
  }

  /** For the wire. */
  record(call: LoggedCall): void {
    this.#calls.push(call);
  }
}
