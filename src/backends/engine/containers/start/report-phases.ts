/** Reports the progress of a start: as events, in the container's record, and in the log. */
import { timestampDate, timestampMs } from "@bufbuild/protobuf/wkt";

import { startEnded } from "../../../../common/metrics/measure.ts";
import type { StartedProcess } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { StartPhase } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { Launched, ReportedPhase } from "../../../driver/launches.ts";
import { withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { durationMs, phasesInWords, seconds, type StartPhases } from "../live/start-phases.ts";

/** Records a phase, and publishes it as an event. */
export function reportPhase(
  context: EngineContext,
  id: string,
  phases: StartPhases,
  told: ReportedPhase,
): void {
  publishPhase(context, id, phases.tell(told));
}

/**
 * Publishes a completed phase in the background. If starts are short, the event goes to current listeners only and is
 * not journalled.
 *
 * @param phase undefined if nothing is new
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

/**
 * Records the times that the agent reports for a started process; an agent that served an earlier run began long ago.
 */
export function reportProcess(
  context: EngineContext,
  id: string,
  phases: StartPhases,
  { reused }: Pick<Launched, "reused">,
  { agentStartedAt, startedAt }: StartedProcess,
): void {
  const from = startedAt === undefined ? new Date(context.clock.nowMs()) : timestampDate(startedAt);
  if (agentStartedAt !== undefined && reused !== true) {
    const agent = { name: "agent", by: "agent", from: timestampDate(agentStartedAt), until: from } as const;
    reportPhase(context, id, phases, agent);
  }
  reportPhase(context, id, phases, { name: "process", by: "agent", from });
}

/** Logs a successful start in one line once the platform has reported all phases, and adds these to the record. */
export function reportStarted(
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
      await context.state.commit(
        (change) => change.containers.put(withFields(record, { startPhases: list })),
        "under-way",
      );
    }
    reportEnd("started", tookMs, list);
    const took = seconds(tookMs);
    context.logger.info({ container: id }, `a container has started in ${took}: ${phasesInWords(list)}`);
  });
}

/** Logs a failed start in one line. */
export function reportFailed(
  context: EngineContext,
  id: string,
  phases: readonly StartPhase[],
  message: string,
): void {
  const words = phasesInWords(phases);
  const tookMs = msSince(context, phases);
  reportEnd("failed", tookMs, phases);
  const after = words === "" ? seconds(tookMs) : `${seconds(tookMs)} (${words})`;
  context.logger.info({ container: id }, `a container was not started, after ${after}: ${message}`);
}

/** Milliseconds since a start was accepted, by this process's clock. */
function msSince({ clock }: EngineContext, phases: readonly StartPhase[]): number {
  const from = phases.find(({ name }) => name === "accepted")?.from;
  return from === undefined ? 0 : Math.max(0, clock.nowMs() - timestampMs(from));
}

/** Reports the end of a start, for metrics. */
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

/** Whether two lists belong to the same start. */
function isSameStart(one: readonly StartPhase[], other: readonly StartPhase[]): boolean {
  const accepted = (list: readonly StartPhase[]) => list.find(({ name }) => name === "accepted")?.from;
  const [here, there] = [accepted(one), accepted(other)];
  return here !== undefined && there !== undefined && timestampMs(here) === timestampMs(there);
}
