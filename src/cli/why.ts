/** `sockerless why`: the progress of a container's start, the duration of each phase, and any failure. */
import * as v from "valibot";

import { mustRead, object, timestamp, wholeNumber } from "../common/documents.ts";

const phaseSchema = object({
  Name: v.string(),
  By: v.string(),
  From: timestamp,
  Until: v.optional(timestamp),
  Note: v.optional(v.string()),
});

/** The fields of `GET /containers/{name}/json` that are read here. */
const inspectSchema = object({
  Name: v.string(),
  State: object({ Status: v.string(), ExitCode: wholeNumber, Error: v.string() }),
  StartPhases: v.optional(v.array(phaseSchema), []),
});

/** A phase in milliseconds since 1970, on one clock. */
interface TimedPhase {
  readonly name: string;
  /** `backend`, `cloud` or `agent`. */
  readonly by: string;
  readonly from: number;
  readonly until: number | undefined;
}

/** The order of phases that begin at the same time. */
const order = [
  ...["accepted", "launch", "definition", "image", "wait", "unprepared", "claim", "request"],
  ...["provisioning", "pull", "containers", "agent", "process"],
];

/** Smallest clock difference that is reported: a cloud that rounds to whole seconds differs by less. */
const leastReportedMs = 1_000;

/**
 * Describes a container's last start.
 *
 * @param inspected the parsed answer of an inspect
 * @param pool what `docker info` tells of prepared tasks; absent where there can be none
 * @returns lines for a terminal
 */
export function why(inspected: unknown, pool?: string | undefined): string[] {
  const { Name, State, StartPhases } = mustRead(inspectSchema, inspected);
  const code = State.Status === "exited" ? ` (${State.ExitCode})` : "";
  const error = State.Error === "" ? "" : `: ${State.Error}`;
  const head = `${Name.replace(/^\//, "")} is ${State.Status}${code}${error}`;
  const accepted = StartPhases.find(({ Name: name }) => name === "accepted") ?? StartPhases[0];
  if (accepted === undefined) {
    return [head, "It was never started."];
  }
  const reported = StartPhases.map(({ Name: name, By: by, From, Until }) => ({
    name,
    by,
    from: Date.parse(From),
    until: Until === undefined ? undefined : Date.parse(Until),
  }));
  const { phases, moved } = onOneClock(reported);
  const width = Math.max(...phases.map(({ name }) => name.length));
  return [
    head,
    `Its last start began at ${accepted.From}:`,
    ...phases.map((phase) => `  ${phase.name.padEnd(width)}  ${timesOf(phase, Date.parse(accepted.From))}`),
    ...moved
      .filter(([, byMs]) => Math.abs(byMs) >= leastReportedMs)
      .map(([by, byMs]) => differenceOf(by, byMs)),
    ...preparedInWords(StartPhases, pool),
  ];
}

/** Whether a prepared task served the start, or why none did. */
function preparedInWords(
  phases: readonly v.InferOutput<typeof phaseSchema>[],
  pool: string | undefined,
): string[] {
  const of = (name: string) => phases.find(({ Name }) => Name === name);
  const claim = of("claim");
  if (claim !== undefined) {
    return [`It runs in a prepared task${claim.Note === undefined ? "" : `: ${claim.Note}`}.`];
  }
  const reason = of("unprepared")?.Note ?? (of("request") && pool === "off" ? "pool.mode is off" : undefined);
  return reason === undefined ? [] : [`Not prepared, because ${reason}.`];
}

/**
 * Shifts the times of the cloud and of the agent onto the backend's clock, by as little as makes the order plausible: a
 * task is created during its request, and its agent starts after the image is pulled and before all of its containers
 * run.
 *
 * @returns the phases in order of their start, and the shift of each clock
 */
function onOneClock(reported: readonly TimedPhase[]): {
  readonly phases: readonly TimedPhase[];
  readonly moved: readonly (readonly [by: string, ms: number])[];
} {
  const byBackend = reported.filter(({ by }) => by === "backend");
  const asked = byBackend.findLast(({ name }) => name === "request" || name === "launch") ?? byBackend[0];
  const cloud = moveInto(
    reported.filter(({ by }) => by === "cloud"),
    asked?.from,
    asked?.until,
  );
  const began = cloud.phases.findLast(({ name }) => name !== "containers");
  const agent = moveInto(
    reported.filter(({ by }) => by === "agent"),
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

/**
 * Shifts phases together so that the first begins within the bounds; the lower bound wins if they contradict each
 * other.
 */
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

/** @param beginMs start of the whole */
function timesOf({ from, until, by }: TimedPhase, beginMs: number): string {
  const at = `+${inSeconds(Math.max(0, from - beginMs))}`.padStart(12);
  const lasted = until === undefined ? "" : inSeconds(Math.max(0, until - from));
  return `${at}  ${lasted.padStart(10)}  reported by the ${by}`;
}

function differenceOf(by: string, byMs: number): string {
  const difference = `at least ${inSeconds(Math.abs(byMs))} ${byMs > 0 ? "behind" : "ahead of"} the backend's`;
  return `The ${by}'s clock is ${difference}: its times are moved by that.`;
}

function inSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(3)} s`;
}
