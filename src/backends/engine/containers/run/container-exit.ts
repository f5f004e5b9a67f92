/** Handles the end of a main process: record, waiters, and the following restart or removal. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";

import { isErrorKind, messageOf } from "../../../../common/errors.ts";
import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent, networkEvents, unmountEvents } from "../../events/decisions/container-events.ts";
import { endedExec, execEndEvent } from "../../execs/decisions/exec-machine.ts";
import type { AgentLink } from "../live/agent-link.ts";
import type { LiveContainer } from "../live/live.ts";
import { runningContainer } from "../decisions/lookup.ts";
import { nextRestartDelay, restarts } from "../decisions/life/restart-policy.ts";
import { type Exit, exited } from "../decisions/life/transitions.ts";
import { announceChange } from "../../networks/name-pushes.ts";
import { announceSharers } from "../../networks/partner-pushes.ts";
import {
  hostConfigOf,
  millisecondsOf,
  nanosecondsOf,
  stateOf,
  timestampOfNs,
} from "../../../model/records.ts";
import { releaseRun } from "./release-run.ts";

/** Exit code of an exec killed by the end of the container's main process (128 + SIGKILL). */
const killedCode = 137;

/**
 * Milliseconds from its start for which a container with `--rm` that nobody stops is there: its client may ask for its
 * end, or its log, once the start was answered.
 */
const shownMs = 300;

/**
 * Records the exit of a run, notifies waiters, and restarts, removes or keeps the container according to its settings.
 * May be called twice or late: only the exit of the recorded run counts.
 *
 * @param execExits known exit codes of execs that ended with it
 * @param lost the agent whose loss implies the exit; ignored if a start has continued with another agent
 */
export async function containerExited(
  context: EngineContext,
  live: LiveContainer,
  generation: bigint,
  told: Exit,
  execExits: ReadonlyMap<string, number> = new Map(),
  lost?: AgentLink,
): Promise<void> {
  await live.lock.run(async () => {
    const record = runningContainer(context.state, live.id, generation);
    if (record === undefined || (lost !== undefined && live.link !== lost)) {
      return;
    }
    const exit = { ...told, finishedAt: plausibleEnd(told.finishedAt, record, context.clock.nowNs()) };
    const ranMs = Math.max(0, millisecondsOf(exit.finishedAt) - millisecondsOf(stateOf(record).startedAt));
    const restarting = restarts(hostConfigOf(record).restartPolicy, {
      code: exit.code,
      stoppedByUser: live.run.isEndedByUser,
      signalledByUser: record.stoppedByUser,
      restartCount: record.restartCount,
    });
    const next = exited(record, exit, restarting);
    const execs = context.state.execs.open(record.id);
    const recorded = context.state.commit((change) => {
      change.containers.put(next);
      for (const exec of execs) {
        const ended = endedExec(exec, execExits.get(exec.id) ?? killedCode);
        change.execs.put(ended);
        change.event(execEndEvent(record, ended));
      }
      for (const event of exitEvents(record, exit, ranMs)) {
        change.event(event);
      }
    }, "happened");
    const left = recorded.then(() => live.run.leave());
    await live.waiters.notifyExit(left, { exitCode: exit.code, error: exit.error });
    releaseRun(context, live, record.endpoints, true);
    announceChange(context, record.id, record.endpoints);
    announceSharers(context, record);
    if (restarting) {
      live.restartDelayMs = nextRestartDelay(live.restartDelayMs, ranMs);
      scheduleRestart(context, live);
    } else if (hostConfigOf(record).autoRemove && !live.run.isRestarted && record.restartToken === "") {
      context.followUps.autoRemove(record.id, record.stoppedByUser ? 0 : shownMs - ranMs);
    }
  });
}

/**
 * The plausible end time of a run: between its start and now. As the journal's times only increase, an agent with a
 * wrong or forged time would shift all later events.
 */
function plausibleEnd(told: Timestamp, record: ContainerRecord, nowNs: bigint): Timestamp {
  const { startedAt } = stateOf(record);
  const startedNs = nanosecondsOf(startedAt);
  const reportedNs = nanosecondsOf(told);
  const notBeforeStart = reportedNs < startedNs ? startedNs : reportedNs;
  return timestampOfNs(notBeforeStart > nowNs ? nowNs : notBeforeStart);
}

/** Restarts a container by its policy after the delay. */
export function scheduleRestart(context: EngineContext, live: LiveContainer): void {
  const pending = new AbortController();
  live.run.awaitRestart(pending);
  void context.background.run(`restart container ${live.id} by its policy`, async () => {
    try {
      await context.clock.sleep(live.restartDelayMs, AbortSignal.any([pending.signal, context.shutdown]));
    } catch {
      return;
    }
    live.run.endWait();
    try {
      await context.followUps.restart(live.id);
    } catch (error) {
      if (!isErrorKind(error, "not-found") && error !== live.startEnded) {
        restartLater(context, live, error);
      }
    }
  });
}

/**
 * Reschedules a restart by policy that could not be performed, if the container still waits for it.
 *
 * @throws the error, if it does not
 */
export function restartLater(context: EngineContext, live: LiveContainer, error: unknown): void {
  const record = context.state.containers.get(live.id);
  const isDue = record !== undefined && stateOf(record).status === ContainerStatus.RESTARTING;
  if (!isDue || context.shutdown.aborted) {
    throw error;
  }
  context.logger.warn({ err: error, container: live.id }, `a restart is tried again: ${messageOf(error)}`);
  live.restartDelayMs = nextRestartDelay(live.restartDelayMs, 0);
  scheduleRestart(context, live);
}

/** The event has the time at which the process ended, even if reported late. */
function exitEvents(record: ContainerRecord, exit: Exit, ranMs: number) {
  const at = nanosecondsOf(exit.finishedAt);
  return [
    ...networkEvents(record, record.endpoints, "disconnect", at),
    ...unmountEvents(record, at),
    {
      ...containerEvent(
        record,
        "die",
        { exitCode: String(exit.code), execDuration: String(Math.floor(ranMs / 1000)) },
        at,
      ),
      error: exit.error,
    },
  ];
}
