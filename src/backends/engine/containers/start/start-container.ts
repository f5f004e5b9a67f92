/** Starting a container: its steps, in the order in which they are done, and what takes them back. */
import { fromUnknown, isErrorKind, messageOf, systemError } from "../../../../common/errors.ts";
import { onAbort } from "../../../../common/on-abort.ts";
import type { StartedProcess } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import {
  ContainerStatus,
  type NextStep,
  type PortMapping,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, Phase } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { unlessAborted } from "../../../concurrency/unless-aborted.ts";
import type { StartSecrets } from "../../../driver/workload-spec.ts";
import type { FoundWorkload } from "../../../driver/workloads.ts";
import { stateOf, withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { joinedBy } from "../../networks/decisions/shared-network.ts";
import { waitRefusal } from "../../volumes/decisions/exclusive-volumes.ts";
import { ensureVolumeParts } from "../../volumes/volume-parts.ts";
import { requireLog } from "../decisions/container-log.ts";
import { startRefusal } from "../decisions/life/refusals.ts";
import { containerOfId } from "../decisions/lookup.ts";
import type { LiveContainer } from "../live/live.ts";
import { StartPhases } from "../live/start-phases.ts";
import { containerExited } from "../run/container-exit.ts";
import { exitOfWorkload, foundRun } from "../run/lost-container.ts";
import { journalStart, refuseUnlessKept, releasedBefore } from "./journal-start.ts";
import { launch, makeImagesRunnable, type Met } from "./launch-start.ts";
import { withNextStep } from "./next-step.ts";
import { prepareAgent } from "./prepare-agent.ts";
import { recordBegun, recordFailure, recordStarted, takeBack } from "./record-start.ts";
import type { Start } from "./start.ts";
import { begunBefore, startProcess, UndeliveredStart } from "./start-process.ts";
import { asStartUnderWay, endedStart, repeatedStart } from "./start-under-way.ts";
import { tellPhase } from "./tell-phases.ts";
import { callerOf, isWantedByPolicy, stillWanted } from "./wanted-start.ts";

/** Parts of a user's start that hold for it alone. */
export interface StartOnce {
  readonly secrets?: StartSecrets | undefined;
  /** A container of a build runs another step, where it ran before. */
  readonly nextStep?: NextStep | undefined;
  /** The request's; empty: it is not going to be repeated. */
  readonly clientToken?: string | undefined;
}

/** Pause between looks at a start that another one waits for. */
const donorPollMs = 50;
/** Pause between questions for a run whose driver does not know it yet. */
const askAgainMs = 5_000;

/** A container's ports as the frontend that publishes them reports them. */
export interface FrontendPorts {
  /** Ports that it listens on. */
  readonly published: readonly PortMapping[];
  /** Reason why it cannot listen, with which the start fails; empty: it listens. */
  readonly publishFailure: string;
}

/**
 * Starts a container and answers once its process runs. Goes on when the client leaves, unless it waits for room on the
 * platform; where its call is lost and does not come again nothing runs.
 *
 * @param by `policy`: a restart policy starts it; in any other state than `restarting` nothing is done
 * @param ports what a frontend says of them; undefined: it listens on what it listened on before
 * @param left the client that asked has left; undefined: none has
 * @throws not-modified: it runs; conflict: it goes, or the start was ended meanwhile; invalid: the command cannot be
 *   executed; what {@link withNextStep} and the driver throw
 */
export async function startContainer(
  context: EngineContext,
  containerId: string,
  by: "user" | "policy" = "user",
  ports?: FrontendPorts,
  left?: AbortSignal,
  { secrets, nextStep, clientToken = "" }: StartOnce = {},
): Promise<void> {
  const live = context.live.of(containerId);
  const repeated = by === "user" ? repeatedStart(live, clientToken, left) : undefined;
  if (repeated !== undefined) {
    await repeated;
    return;
  }
  const endedBefore = live.startEnded;
  const accepted = new Date(context.clock.nowMs());
  await live.lock.run(async () => {
    const record = containerOfId(context.state, containerId);
    if (live.startEnded !== undefined && live.startEnded !== endedBefore) {
      throw live.startEnded; // Asked for before a user said otherwise.
    }
    if (!isDue(context, live, record, by, clientToken)) {
      return;
    }
    const phases = new StartPhases();
    const caller =
      by === "user" && left !== undefined
        ? callerOf(context, live, { token: clientToken, isWantedAnyway: isWantedByPolicy(record) })
        : undefined;
    const start = async (ended: AbortSignal): Promise<void> => {
      if (left !== undefined) {
        live.run.start?.caller?.follow(left);
      }
      tellPhase(context, containerId, phases, { name: "accepted", by: "backend", from: accepted });
      await releasedBefore(context, live, record, ended);
      if (ports !== undefined && ports.publishFailure !== "") {
        throw await recordFailure(context, live, record, systemError(ports.publishFailure));
      }
      if (nextStep !== undefined) {
        refuseUnlessKept(context, live, secrets);
      }
      const step = nextStep === undefined ? undefined : await withNextStep(context, record, nextStep);
      const next = step?.record ?? record;
      const asked = ports === undefined ? next : withFields(next, { publishedPorts: [...ports.published] });
      const told = withFields(asked, { startPhases: phases.list });
      const begun = await journalStart(context, live, told, by === "user" ? { clientToken } : undefined);
      await runJournalled({
        context,
        live,
        record: begun,
        ended,
        phases,
        mayHaveBegun: false,
        secrets,
        step,
      });
    };
    await asStartUnderWay(live, phases, start, caller);
  });
}

/**
 * Whether there is anything to start, with the container's lock held.
 *
 * @throws what a user's start is refused with
 */
function isDue(
  { driver, state }: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  by: "user" | "policy",
  clientToken: string,
): boolean {
  if (by === "policy") {
    return stateOf(record).status === ContainerStatus.RESTARTING; // Else somebody has stopped, started or removed it.
  }
  if (clientToken !== "" && record.startToken === clientToken) {
    return false; // The process of the backend that made this start was ended before its answer came.
  }
  const refusal =
    startRefusal(record, live.run.isRemoving) ?? waitRefusal(state, driver.volumes.rules, record);
  if (refusal !== undefined) {
    throw refusal;
  }
  live.restartDelayMs = 0;
  return true;
}

/**
 * The steps of a start that is journalled, until its process runs. A process of the backend that takes the start up walks
 * them from the first on: each finds what is there of it. Whatever fails in one takes back those before it.
 */
async function runJournalled(start: Start): Promise<void> {
  const { context, record, ended } = start;
  try {
    requireLog(record);
    await unlessAborted(ended, ensureVolumeParts(context, record));
    await makeImagesRunnable(start);
    const { met, started } = await begin(start);
    await recordStarted(start, met, started);
  } catch (error) {
    throw await takeBack(start, error);
  }
}

/** Launches the container and has its process begun, anew where its agent is lost in between and nothing has begun. */
async function begin(start: Start): Promise<{ readonly met: Met; readonly started: StartedProcess }> {
  const { context, live, record } = start;
  for (;;) {
    const met = await launch(start);
    let isTold = start.mayHaveBegun;
    try {
      const request = await prepareAgent(start, met);
      await stillWanted(start, met.link);
      const unwanted = live.run.start?.caller?.unwanted;
      const started = await startProcess(met.link, request, unwanted).catch((error: unknown) => {
        isTold ||= !(error instanceof UndeliveredStart);
        return begunBefore(context, record, met.link, error);
      });
      return { met, started };
    } catch (error) {
      if (!(await mayLaunchAgain(start, error, isTold))) {
        throw error;
      }
    }
  }
}

/**
 * Asks the driver whether a start goes on without the agent that it had. An attachment that was given its address is lost with
 * it, and so is the place of a build's step: then it does not.
 */
async function mayLaunchAgain(
  { context, live, record, ended, step }: Start,
  error: unknown,
  isTold: boolean,
): Promise<boolean> {
  const failure = fromUnknown(error);
  const isLost = isErrorKind(failure, "unavailable") && !ended.aborted && !context.shutdown.aborted;
  if (!isLost || step !== undefined || live.reservations.areServed) {
    return false;
  }
  const goesOn = await context.driver.launches.mayLaunchAgain(record.id, { isTold, failure });
  if (goesOn) {
    live.run.leave();
    live.reservations.end();
  }
  return goesOn;
}

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
    const taken = { context, live, record, ended, phases, mayHaveBegun, secrets: undefined, step: undefined };
    try {
      past = mayHaveBegun ? undefined : await pastRun(taken);
      if (past === undefined) {
        await settledDonor(taken);
        await runJournalled(taken);
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
