/** Phases of one start, for inspect, events and the log. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate, timestampMs } from "@bufbuild/protobuf/wkt";

import { type StartPhase, StartPhaseSchema } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ReportedPhase } from "../../../driver/launches.ts";

/** The phases of a start; each is reported again as more of it becomes known. */
export class StartPhases {
  readonly #phases = new Map<string, StartPhase>();
  #waits = 0;

  /** @param known phases recorded by an earlier process */
  constructor(known: readonly StartPhase[] = []) {
    for (const phase of known) {
      this.#phases.set(phase.name === "wait" ? this.#nextWait() : phase.name, phase);
    }
  }

  /** In order of their beginning. */
  get list(): StartPhase[] {
    return [...this.#phases.values()].sort((one, other) => fromMs(one) - fromMs(other));
  }

  /**
   * Adds or updates a phase. A new request for a task drops the phases of the previous one, which has failed.
   *
   * @returns the phase; undefined if nothing is new
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

  /** Begins a wait, of which there may be several. Continues one left by an earlier process. */
  wait(from: Date): void {
    const last = this.#phases.get(`wait ${this.#waits}`);
    if (last === undefined || last.until !== undefined) {
      this.#set(this.#nextWait(), { name: "wait", by: "backend", from });
    }
  }

  /** Ends the wait and returns it. */
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

  #set(key: string, { name, by, from, until, note = "" }: ReportedPhase): StartPhase | undefined {
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
      note,
      from: timestampFromDate(from),
      ...(until === undefined ? {} : { until: timestampFromDate(until) }),
    });
    this.#phases.set(key, phase);
    return phase;
  }
}

/** Phases with their durations as text: `provisioning 11.2 s, pull 8.05 s`. */
export function phasesInWords(phases: readonly StartPhase[]): string {
  return phases
    .filter(({ until }) => until !== undefined)
    .map((phase) => `${phase.name} ${seconds(durationMs(phase))}`)
    .join(", ");
}

/** A duration in seconds, with three significant digits. */
export function seconds(ms: number): string {
  return `${Number((ms / 1000).toPrecision(3))} s`;
}

/** Duration of a phase in milliseconds; not negative even if a clock was set back. */
export function durationMs({ from, until }: StartPhase): number {
  return from === undefined || until === undefined ? 0 : Math.max(0, timestampMs(until) - timestampMs(from));
}

function fromMs({ from }: StartPhase): number {
  return from === undefined ? 0 : timestampMs(from);
}
