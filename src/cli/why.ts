/** `sockerless why`: how far a container's start has come, how long each of its phases took, and what went wrong. */
import * as v from "valibot";

import { mustRead, object, wholeNumber } from "../common/documents.ts";

const timestamp = v.pipe(v.string(), v.isoTimestamp("Invalid ISO datetime"));

const phaseSchema = object({
  Name: v.string(),
  By: v.string(),
  From: timestamp,
  Until: v.optional(timestamp),
});

/** The part of `GET /containers/{name}/json` that is read here. */
const inspectSchema = object({
  Name: v.string(),
  State: object({ Status: v.string(), ExitCode: wholeNumber, Error: v.string() }),
  StartPhases: v.optional(v.array(phaseSchema), []),
});

/** A phase on the backend's clock, milliseconds since 1970. */
interface TimedPhase {
  readonly name: string;
  /** `backend`, `cloud` or `agent`. */
  readonly by: string;
  readonly from: number;
  readonly until: number | undefined;
}

/** Phases in the order of things, which those that begin at the same time have. */
const order = [
  ...["accepted", "launch", "definition", "image", "wait", "request"],
  ...["provisioning", "pull", "containers", "agent", "process"],
];

/** A clock that differs by less is not told: clouds that tell whole seconds are behind by nothing else. */
const toldFromMs = 1_000;

/**
 * Tells of a container's last start.
 *
 * @param inspected the answer of an inspect, parsed
 * @returns lines for a terminal
 */
export function why(inspected: unknown): string[] {
  const { Name, State, StartPhases } = mustRead(inspectSchema, inspected);
  const code = State.Status === "exited" ? ` (${State.ExitCode})` : "";
  const error = State.Error === "" ? "" : `: ${State.Error}`;
  const head = `${Name.replace(/^\//, "")} is ${State.Status}${code}${error}`;
  const accepted = StartPhases.find(({ Name: name }) => name === "accepted") ?? StartPhases[0];
  if (accepted === undefined) {
    return [head, "It was never started."];
  }
  const told = StartPhases.map(({ Name: name, By: by, From, Until }) => ({
    name,
    by,
    from: Date.parse(From),
    until: Until === undefined ? undefined : Date.parse(Until),
  }));
  const { phases, moved } = onOneClock(told);
  const width = Math.max(...phases.map(({ name }) => name.length));
  return [
    head,
    `Its last start began at ${accepted.From}:`,
    ...phases.map((phase) => `  ${phase.name.padEnd(width)}  ${timesOf(phase, Date.parse(accepted.From))}`),
    ...moved.filter(([, byMs]) => Math.abs(byMs) >= toldFromMs).map(([by, byMs]) => differenceOf(by, byMs)),
  ];
}

/**
 * Moves the times of the cloud and of the agent onto the backend's clock, as little as puts them into the order of things: a
 * task is made while it is asked for, and its agent begins once its image is there and before all of its containers run.
 *
 * @returns the phases by their begin, and how far each clock was moved
 */
function onOneClock(told: readonly TimedPhase[]): {
  readonly phases: readonly TimedPhase[];
  readonly moved: readonly (readonly [by: string, ms: number])[];
} {
  const byBackend = told.filter(({ by }) => by === "backend");
  const asked = byBackend.findLast(({ name }) => name === "request" || name === "launch") ?? byBackend[0];
  const cloud = moveInto(
    told.filter(({ by }) => by === "cloud"),
    asked?.from,
    asked?.until,
  );
  const began = cloud.phases.findLast(({ name }) => name !== "containers");
  const agent = moveInto(
    told.filter(({ by }) => by === "agent"),
    began === undefined ? asked?.from : began.name === "pull" ? (began.until ?? began.from) : began.from,
    cloud.phases.find(({ name }) => name === "containers")?.until,
  );
  const phases = [...byBackend, ...cloud.phases, ...agent.phases].sort(
    (one, other) => one.from - other.from || order.indexOf(one.name) - order.indexOf(other.name),
  );
  return {
    phases,
    moved: [
      ["cloud", cloud.byMs],
      ["agent", agent.byMs],
    ],
  };
}

/** Moves phases together so that the first begins within bounds; the lower one counts where they contradict each other. */
function moveInto(
  phases: readonly TimedPhase[],
  least = Number.NEGATIVE_INFINITY,
  most = Number.POSITIVE_INFINITY,
): { readonly phases: readonly TimedPhase[]; readonly byMs: number } {
  const first = Math.min(...phases.map(({ from }) => from));
  const byMs = phases.length === 0 ? 0 : Math.max(least, Math.min(most, first)) - first;
  const move = (ms: number): number => ms + byMs;
  return {
    phases: phases.map((phase) => ({
      ...phase,
      from: move(phase.from),
      until: phase.until === undefined ? undefined : move(phase.until),
    })),
    byMs,
  };
}

/** @param beginMs of the whole start */
function timesOf({ from, until, by }: TimedPhase, beginMs: number): string {
  const at = `+${inSeconds(Math.max(0, from - beginMs))}`.padStart(12);
  const lasted = until === undefined ? "" : inSeconds(Math.max(0, until - from));
  return `${at}  ${lasted.padStart(10)}  told by the ${by}`;
}

function differenceOf(by: string, byMs: number): string {
  const difference = `at least ${inSeconds(Math.abs(byMs))} ${byMs > 0 ? "behind" : "ahead of"} the backend's`;
  return `The ${by}'s clock is ${difference}: its times are moved by that.`;
}

function inSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(3)} s`;
}
