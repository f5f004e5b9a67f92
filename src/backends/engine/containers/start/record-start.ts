/** Records the outcome of a start: it runs, or it has failed and is undone. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";

import { conflict, fromUnknown, isErrorKind, type SockerlessError } from "../../../../common/errors.ts";
import type { StartedProcess } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, Phase } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Launched } from "../../../driver/launches.ts";
import { boundPortsOf } from "../../../model/ports.ts";
import { hostConfigOf, stateOf, timestampOfNs, withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent, mountEvents, networkEvents } from "../../events/decisions/container-events.ts";
import { announceChange } from "../../networks/name-pushes.ts";
import { announceSharers } from "../../networks/partner-pushes.ts";
import { throwIfShuttingDown } from "../../work/shutting-down.ts";
import { unknownFailureCode } from "../decisions/life/start-failure.ts";
import { running, startFailed, startNotMade } from "../decisions/life/transitions.ts";
import type { LiveContainer } from "../live/live.ts";
import { releaseRun } from "../run/release-run.ts";
import { made, type Start } from "./start.ts";
import { FailedStart } from "./start-process.ts";
import { reportFailed, reportProcess, reportStarted } from "./report-phases.ts";

/** Records that the process of a start runs, and notifies its waiters. */
export async function recordStarted(start: Start): Promise<void> {
  const { context, live, phases } = start;
  const { launched, placed } = made(start.met);
  const started = made(start.started);
  const { id } = placed;
  reportProcess(context, id, phases, launched, started);
  await recordRunning(context, withFields(placed, { startPhases: phases.list }), launched, started);
  reportStarted(context, id, phases, launched);
  live.run.succeed();
  live.reservations.end();
  const settled = context.driver.launches.started(id);
  void context.background.run(`forget what the start of container ${id} has used`, () => settled);
}

/** Records a run that began in a start of a lost backend and whose agent is gone; its end is recorded next. */
export async function recordBegun(
  context: EngineContext,
  record: ContainerRecord,
  begunAt: Date,
): Promise<void> {
  const launched = { boundPorts: [], reference: record.driverReference };
  await recordRunning(context, record, launched, { pid: 0n, startedAt: timestampFromDate(begunAt) });
}

async function recordRunning(
  context: EngineContext,
  record: ContainerRecord,
  launched: Pick<Launched, "boundPorts" | "reference" | "networkNamespace">,
  started: Pick<StartedProcess, "pid" | "startedAt">,
): Promise<void> {
  const byFrontend = context.driver.ports.listener === "frontend";
  const next = running(
    record,
    { pid: started.pid, startedAt: started.startedAt ?? timestampOfNs(context.clock.nowNs()) },
    byFrontend ? { ...launched, boundPorts: boundPortsOf(record.publishedPorts) } : launched,
  );
  await context.state.commit((change) => {
    change.containers.put(next);
    for (const exec of context.state.execs.of(record.id)) {
      if (exec.generation !== record.generation) {
        change.execs.delete(exec.id);
      }
    }
    for (const event of [...networkEvents(next, next.endpoints, "connect"), ...mountEvents(next)]) {
      change.event(event);
    }
    change.event(containerEvent(next, "start"));
  }, "happened");
}

/**
 * Undoes a start, at whatever step it failed or was cancelled. Not on a shutdown: the next process of the backend
 * continues the start.
 *
 * @returns the error to answer
 * @throws the reason of the shutdown
 */
export async function takeBack(
  { context, live, record, ended }: Start,
  error: unknown,
): Promise<SockerlessError> {
  throwIfShuttingDown(context, error);
  const isEnded = ended.aborted && !(error instanceof FailedStart);
  const stoppedByUser = ended.aborted && ended.reason === live.startEnded; // Otherwise its client has left.
  const asked = withFields(record, { stoppedByUser });
  return await recordFailure(context, live, asked, isEnded ? ended.reason : error);
}

/**
 * Records a failed start, and releases its resources. If something that it needs is unreachable, or its policy restarts it
 * while the state directory's disk is full, the container keeps its last exit and continues to be restarted.
 *
 * @returns the error to answer
 */
export async function recordFailure(
  context: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  error: unknown,
): Promise<SockerlessError> {
  const reason = error instanceof FailedStart ? error.reason : fromUnknown(error);
  const exitCode = error instanceof FailedStart ? error.exitCode : unknownFailureCode;
  const startPhases = live.run.start?.phases.list ?? record.startPhases;
  const told = withFields(record, { startPhases });
  const isByPolicy = stateOf(record).status === ContainerStatus.RESTARTING && !record.stoppedByUser;
  const mayPass = isErrorKind(reason, "unavailable") || (isByPolicy && context.state.failure !== undefined);
  const isMade = record.phase !== Phase.STARTING || !mayPass;
  const failed = isMade ? startFailed(told, exitCode, reason.message) : startNotMade(told, reason.message);
  const { error: message } = stateOf(failed);
  const recorded = context.state.commit((change) => change.containers.put(failed), "happened");
  const left = recorded.then(() => {
    reportFailed(context, record.id, startPhases, message);
    live.run.leave();
    // Always a conflict: `unavailable` would mean a lost backend.
    live.reservations.fail(conflict(message, reason));
  });
  if (isMade && stateOf(record).status === ContainerStatus.RESTARTING) {
    // The restart that its policy had announced does not take place.
    await live.waiters.notifyExit(left, { exitCode, error: message });
  } else {
    await left;
  }
  releaseRun(context, live, record.endpoints);
  announceChange(context, record.id, record.endpoints);
  announceSharers(context, record);
  if (hostConfigOf(record).autoRemove) {
    context.followUps.autoRemove(record.id);
  }
  return reason;
}
