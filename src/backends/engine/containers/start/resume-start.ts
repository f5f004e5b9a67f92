/** Continues a start that an earlier process of the backend has journalled. */
import { messageOf, systemError } from "../../../../common/errors.ts";
import { onAbort } from "../../../../common/on-abort.ts";
import { type ContainerRecord, Phase } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { unlessAborted } from "../../../concurrency/unless-aborted.ts";
import type { FoundWorkload } from "../../../driver/workloads.ts";
import { millisecondsOf, timestampOfNs, withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { joinedBy } from "../../networks/decisions/shared-network.ts";
import { StartPhases } from "../live/start-phases.ts";
import { containerExited } from "../run/container-exit.ts";
import { exitOfWorkload, foundRun } from "../run/lost-container.ts";
import { recordBegun, recordFailure, takeBack } from "./record-start.ts";
import type { Start } from "./start.ts";
import { startSteps } from "./start-container.ts";
import { performSteps } from "../../work/steps.ts";
import { asStartUnderWay, endedStart } from "./start-under-way.ts";
import { callerOf, isWantedByPolicy } from "./wanted-start.ts";

/** The most backends that take up a start in turn: one that crashes the backend must not do so for ever. */
const mostResumes = 5;
/** After this time a start is not taken for the cause of a backend's end. */
const soonMs = 60_000;
/** Polling interval for a start that another one waits for. */
const donorPollMs = 50;
/** Polling interval for a run that the driver does not know yet. */
const pollMs = 5_000;

/**
 * Continues a start that was in progress when the backend ended. Undoes it if a user was ending it, or if its client
 * got an error, does not retry and no policy wants the start, or if it has been taken up too often. The record is in the
 * phase `starting`.
 *
 * @param mayHaveBegun whether its agent may have been told to run
 */
export async function resumeStart(
  context: EngineContext,
  interrupted: ContainerRecord,
  mayHaveBegun: boolean,
): Promise<void> {
  const record = resumed(interrupted, context.clock.nowNs());
  const live = context.live.of(record.id);
  const isWantedAnyway = !record.startAwaited || isWantedByPolicy(record);
  const caller = callerOf(context, live, { token: record.startToken, isWantedAnyway }, mayHaveBegun);
  const phases = new StartPhases(record.startPhases);
  let isEnded = record.stoppedByUser;
  let past: FoundWorkload | undefined;
  const start = async (ended: AbortSignal): Promise<void> => {
    live.run.start?.caller?.lose();
    if (isEnded) {
      throw await recordFailure(context, live, record, endedStart(record.id, "stopped"));
    }
    if (!mayHaveBegun && record.startResumes > mostResumes) {
      const reason = `the backend has ended ${mostResumes} times in turn, soon after it had taken up this start`;
      throw await recordFailure(context, live, record, systemError(reason));
    }
    await context.state.commit((change) => change.containers.put(record), "under-way");
    const taken = {
      ...{ context, live, record, asked: undefined, ended, phases, mayHaveBegun },
      ...{ secrets: undefined, step: undefined },
    };
    try {
      past = mayHaveBegun ? undefined : await pastRun(taken);
      if (past === undefined) {
        await settledDonor(taken);
        await performSteps(startSteps, taken, "log");
      }
    } catch (error) {
      isEnded = ended.aborted;
      throw error;
    }
  };
  try {
    await live.lock.run(() => asStartUnderWay(live, phases, start, caller));
  } catch (error) {
    if (!isEnded) {
      throw error;
    }
  }
  if (past !== undefined) {
    await containerExited(context, live, record.generation, exitOfWorkload(context, past), past.execExits);
  }
}

function resumed(record: ContainerRecord, nowNs: bigint): ContainerRecord {
  const now = timestampOfNs(nowNs);
  const last = record.startResumed;
  const isSoon = last !== undefined && millisecondsOf(now) - millisecondsOf(last) < soonMs;
  return withFields(record, { startResumes: isSoon ? record.startResumes + 1 : 1, startResumed: now });
}

/**
 * Finds a run that began and ended while no backend could record it, and records its beginning. Only a user ends the
 * search: the loss of the caller does not undo what has run.
 *
 * @returns undefined if nothing has begun, or its agent lives
 */
async function pastRun(start: Start): Promise<FoundWorkload | undefined> {
  const { context, live, record, ended } = start;
  const byUser = new AbortController();
  using _ending = onAbort(ended, () => {
    if (ended.reason === live.startEnded) {
      byUser.abort(ended.reason);
    }
  });
  try {
    const found = await untilFound(start, AbortSignal.any([byUser.signal, context.shutdown]));
    if (found?.begunAt === undefined || found.agent !== undefined) {
      return undefined;
    }
    await recordBegun(context, record, found.begunAt);
    live.reservations.end();
    return found;
  } catch (error) {
    throw await takeBack(start, error);
  }
}

/** Queries the driver for the run until the answer is definite. @throws the signal's reason */
async function untilFound(
  { context, record }: Start,
  signal: AbortSignal,
): Promise<FoundWorkload | undefined> {
  for (;;) {
    try {
      return await unlessAborted(signal, foundRun(context, record.id, record.generation));
    } catch (error) {
      signal.throwIfAborted();
      const about = { container: record.id, err: error };
      context.logger.warn(about, `whether a start has begun anything is asked again: ${messageOf(error)}`);
      await context.clock.sleep(pollMs, signal);
    }
  }
}

/**
 * Waits until the start of the container whose network this one shares has succeeded or failed: it may be resumed as
 * well.
 */
async function settledDonor(start: Start): Promise<void> {
  const { context, record, ended } = start;
  try {
    while (joinedBy(context, record)?.phase === Phase.STARTING) {
      await context.clock.sleep(donorPollMs, AbortSignal.any([ended, context.shutdown]));
    }
  } catch (error) {
    throw await takeBack(start, error);
  }
}
