/** Telling how a start goes on: to whoever follows the events, in the container's record, and in the log. */
import { timestampDate, timestampMs } from "@bufbuild/protobuf/wkt";

import { startEnded } from "../../../../common/metrics/measure.ts";
import type { StartedProcess } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { StartPhase } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { Launched, ReportedPhase } from "../../../driver/launches.ts";
import { withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { durationMs, phasesInWords, seconds, type StartPhases } from "../live/start-phases.ts";

/** Takes in a phase, of which whoever follows the events may hear. */
export function tellPhase(
  context: EngineContext,
  id: string,
  phases: StartPhases,
  told: ReportedPhase,
): void {
  publishPhase(context, id, phases.tell(told));
}

/**
 * Publishes a phase that is over, behind the return. Where starts are short, it is told those who follow the events now,
 * and not kept among them.
 *
 * @param phase undefined: nothing is new
 */
export function publishPhase(context: EngineContext, id: string, phase: StartPhase | undefined): void {
  const isKept = context.driver.site.kind === "remote";
  if (phase?.from === undefined || phase.until === undefined) {
    return;
  }
  if (!isKept && context.state.events.listeners === 0) {
    return;
  }
  const { name, by } = phase;
  const from = timestampDate(phase.from).toISOString();
  const until = timestampDate(phase.until).toISOString();
  void context.background.run(`tell a phase of the start of container ${id}`, async () => {
    const record = context.state.containers.get(id);
    if (record !== undefined) {
      const event = containerEvent(record, `start_phase: ${name}`, { by, from, until });
      await context.state.commit((change) => (isKept ? change.event(event) : change.passingEvent(event)));
    }
  });
}

/** Takes in what the agent tells of a process that it has started; an agent that has served before began long ago. */
export function tellProcess(
  context: EngineContext,
  id: string,
  phases: StartPhases,
  { reused }: Pick<Launched, "reused">,
  { agentStartedAt, startedAt }: StartedProcess,
): void {
  const from = startedAt === undefined ? new Date(context.clock.nowMs()) : timestampDate(startedAt);
  if (agentStartedAt !== undefined && reused !== true) {
    const agent = { name: "agent", by: "agent", from: timestampDate(agentStartedAt), until: from } as const;
    tellPhase(context, id, phases, agent);
  }
  tellPhase(context, id, phases, { name: "process", by: "agent", from });
}

/** Logs a start that has succeeded, in one line, once the platform has told all of it; the record has it then, too. */
export function tellStarted(
  context: EngineContext,
  id: string,
  phases: StartPhases,
  { settled }: Launched,
): void {
  const tookMs = msSince(context, phases.list);
  void context.background.run(`tell how container ${id} has started`, async () => {
    await settled;
    const { list } = phases;
    const record = context.state.containers.get(id);
    if (settled !== undefined && record !== undefined && isSameStart(record.startPhases, list)) {
      await context.state.commit((change) =>
        change.containers.put(withFields(record, { startPhases: list })),
      );
    }
    reportEnd("started", tookMs, list);
    const took = seconds(tookMs);
    context.logger.info({ container: id }, `a container has started in ${took}: ${phasesInWords(list)}`);
  });
}

/** Logs a start that has failed, in one line. */
export function tellFailed(
  context: EngineContext,
  id: string,
  phases: readonly StartPhase[],
  { message }: Error,
): void {
  const words = phasesInWords(phases);
  const tookMs = msSince(context, phases);
  reportEnd("failed", tookMs, phases);
  const after = words === "" ? seconds(tookMs) : `${seconds(tookMs)} (${words})`;
  context.logger.info({ container: id }, `a container was not started, after ${after}: ${message}`);
}

/** Milliseconds since a start was accepted, by this process's clock alone. */
function msSince({ clock }: EngineContext, phases: readonly StartPhase[]): number {
  const from = phases.find(({ name }) => name === "accepted")?.from;
  return from === undefined ? 0 : Math.max(0, clock.nowMs() - timestampMs(from));
}

/** Reports a start that has ended, for metrics. */
function reportEnd(outcome: "started" | "failed", tookMs: number, phases: readonly StartPhase[]): void {
  startEnded.report(() => ({
    outcome,
    seconds: tookMs / 1000,
    phases: phases.flatMap((phase) => {
      const { name, by, from, until } = phase;
      return from === undefined || until === undefined
        ? []
        : [{ name, by, fromMs: timestampMs(from), seconds: durationMs(phase) / 1000 }];
    }),
  }));
}

/** Whether two lists are of one start, and not of one before it. */
function isSameStart(one: readonly StartPhase[], other: readonly StartPhase[]): boolean {
  const accepted = (list: readonly StartPhase[]) => list.find(({ name }) => name === "accepted")?.from;
  const [here, there] = [accepted(one), accepted(other)];
  return here !== undefined && there !== undefined && timestampMs(here) === timestampMs(there);
}
