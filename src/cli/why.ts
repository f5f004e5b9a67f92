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

type Phase = v.InferOutput<typeof phaseSchema>;

/** The clocks that phases are timed by, as users know them. */
const clocks: Readonly<Record<string, string>> = {
  backend: "the backend's clock",
  cloud: "the cloud's clock",
  agent: "the agent's clock",
};

/**
 * Tells of a container's last start.
 *
 * @param inspected the answer of an inspect, parsed
 * @returns lines for a terminal
 */
export function why(inspected: unknown): string[] {
  const { Name, State, StartPhases: phases } = mustRead(inspectSchema, inspected);
  const code = State.Status === "exited" ? ` (${State.ExitCode})` : "";
  const error = State.Error === "" ? "" : `: ${State.Error}`;
  const head = `${Name.replace(/^\//, "")} is ${State.Status}${code}${error}`;
  const [first] = phases;
  if (first === undefined) {
    return [head, "It was never started."];
  }
  const width = Math.max(...phases.map((phase) => phase.Name.length));
  const accepted = phases.find((phase) => phase.Name === "accepted") ?? first; // Other clocks may be behind.
  const begin = Date.parse(accepted.From);
  return [
    head,
    `Its last start began at ${accepted.From}:`,
    ...phases.map((phase) => `  ${phase.Name.padEnd(width)}  ${timesOf(phase, begin)}`),
  ];
}

/** @param beginMs of the whole start */
function timesOf({ From, Until, By }: Phase, beginMs: number): string {
  const sinceMs = Date.parse(From) - beginMs;
  const at = `${sinceMs < 0 ? "" : "+"}${inSeconds(sinceMs)}`.padStart(12);
  const lasted = Until === undefined ? "" : inSeconds(Date.parse(Until) - Date.parse(From));
  return `${at}  ${lasted.padStart(10)}  ${clocks[By] ?? By}`;
}

function inSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(3)} s`;
}
