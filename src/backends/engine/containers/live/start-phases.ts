/** Phases of one start, as inspect, events and the log tell them. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate, timestampMs } from "@bufbuild/protobuf/wkt";

import { type StartPhase, StartPhaseSchema } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ReportedPhase } from "../../../driver/launches.ts";

/** The phases of a start; each is told again as more of it is known. */
export class StartPhases {
  readonly #phases = new Map<string, StartPhase>();
  #waits = 0;

  /** @param known from a process that has ended meanwhile */
  constructor(known: readonly StartPhase[] = []) {
    for (const phase of known) {
      this.#phases.set(phase.name === "wait" ? this.#nextWait() : phase.name, phase);
    }
  }

  /** In the order of their begin. */
  get list(): StartPhase[] {
    return [...this.#phases.values()].sort((one, other) => fromMs(one) - fromMs(other));
  }

  /**
   * Takes in a phase. A request for a task takes away what the cloud has told of the one before it, which came to nothing.
   *
   * @returns the phase; undefined: nothing of it is new
   */
  tell(told: ReportedPhase): StartPhase | undefined {
    const phase = this.#set(told.name, told);
    if (told.name === "request" && phase !== undefined) {
      for (const [key, { by }] of this.#phases) {
        if (by === "cloud") {
          this.#phases.delete(key);
        }
      }
    }
    return phase;
  }

  /** A wait begins: there may be several. One that a process before this one has left goes on. */
  wait(from: Date): void {
    const last = this.#phases.get(`wait ${this.#waits}`);
    if (last === undefined || last.until !== undefined) {
      this.#set(this.#nextWait(), { name: "wait", by: "backend", from });
    }
  }

  /** The wait is over. @returns it */
  endWait(until: Date): StartPhase | undefined {
    const key = `wait ${this.#waits}`;
    const wait = this.#phases.get(key);
    if (wait === undefined || wait.until !== undefined) {
      return undefined;
    }
    const ended = create(StartPhaseSchema, { ...wait, until: timestampFromDate(until) });
    this.#phases.set(key, ended);
    return ended;
  }

  #nextWait(): string {
    this.#waits += 1;
    return `wait ${this.#waits}`;
  }

  #set(key: string, { name, by, from, until }: ReportedPhase): StartPhase | undefined {
    const before = this.#phases.get(key);
    const isSame =
      before !== undefined &&
      fromMs(before) === from.getTime() &&
      (before.until !== undefined) === (until !== undefined);
    if (isSame) {
      return undefined;
    }
    const phase = create(StartPhaseSchema, {
      name,
      by,
      from: timestampFromDate(from),
      ...(until === undefined ? {} : { until: timestampFromDate(until) }),
    });
    this.#phases.set(key, phase);
    return phase;
  }
}

/** Phases in words, with how long each has lasted: `provisioning 11.2 s, pull 8.05 s`. */
export function phasesInWords(phases: readonly StartPhase[]): string {
  return phases
    .filter(({ until }) => until !== undefined)
    .map((phase) => `${phase.name} ${seconds(durationMs(phase))}`)
    .join(", ");
}

/** A time in seconds, with three digits that count. */
export function seconds(ms: number): string {
  return `${Number((ms / 1000).toPrecision(3))} s`;
}

/** How long a phase has lasted, in milliseconds; clocks may have been set meanwhile. */
export function durationMs({ from, until }: StartPhase): number {
  return from === undefined || until === undefined ? 0 : Math.max(0, timestampMs(until) - timestampMs(from));
}

function fromMs({ from }: StartPhase): number {
  return from === undefined ? 0 : timestampMs(from);
}
