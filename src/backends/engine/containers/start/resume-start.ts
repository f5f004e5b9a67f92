/** Taking up a start that an earlier process of the backend has journalled. */
import { messageOf } from "../../../../common/errors.ts";
import { onAbort } from "../../../../common/on-abort.ts";
import { type ContainerRecord, Phase } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { unlessAborted } from "../../../concurrency/unless-aborted.ts";
import type { FoundWorkload } from "../../../driver/workloads.ts";
import type { EngineContext } from "../../context.ts";
import { joinedBy } from "../../networks/decisions/shared-network.ts";
import { StartPhases } from "../live/start-phases.ts";
import { containerExited } from "../run/container-exit.ts";
import { exitOfWorkload, foundRun } from "../run/lost-container.ts";
import { recordBegun, recordFailure, takeBack } from "./record-start.ts";
import type { Start } from "./start.ts";
import { startSteps } from "./start-container.ts";
import { walk } from "../../work/steps.ts";
import { asStartUnderWay, endedStart } from "./start-under-way.ts";
import { callerOf, isWantedByPolicy } from "./wanted-start.ts";

/** Pause between looks at a start that another one waits for. */
const donorPollMs = 50;
/** Pause between questions for a run whose driver does not know it yet. */
const askAgainMs = 5_000;

/**
 * Takes up a start that was under way when the backend ended, or takes it back where a user was ending it, or where its
 * client was told of a failure, does not ask again and no policy wants it; the record is in the phase `starting`.
 *
 * @param mayHaveBegun its agent may have been told to run
 */
export async function resumeStart(
  context: EngineContext,
  record: ContainerRecord,
  mayHaveBegun: boolean,
): Promise<void> {
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
    const taken = {
      ...{ context, live, record, asked: undefined, ended, phases, mayHaveBegun },
      ...{ secrets: undefined, step: undefined },
    };
    try {
      past = mayHaveBegun ? undefined : await pastRun(taken);
      if (past === undefined) {
        await settledDonor(taken);
        await walk(startSteps, taken, "log");
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

/**
 * Finds a run that had begun and has ended, both while no backend could record it, and records its begin. Only a user ends the
 * search: that the caller is lost undoes nothing that has run.
 *
 * @returns undefined: nothing has begun, or its agent lives
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

/** Asks the driver for the run until it knows. @throws the signal's reason */
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
      await context.clock.sleep(askAgainMs, signal);
    }
  }
}

/** Waits until the container whose network this one shares has started, or has not: that start may be taken up, too. */
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
