/** Starts a container: the steps in order, and their undo. */
import { fromUnknown, isErrorKind, systemError } from "../../../../common/errors.ts";
import {
  ContainerStatus,
  type NextStep,
  type PortMapping,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { unlessAborted } from "../../../concurrency/unless-aborted.ts";
import { LaterStart } from "../../../driver/later-start.ts";
import type { StartSecrets } from "../../../driver/workload-spec.ts";
import { stateOf, withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { waitRefusal } from "../../volumes/decisions/exclusive-volumes.ts";
import { ensureVolumeParts } from "../../volumes/volume-parts.ts";
import { requireLog } from "../decisions/container-log.ts";
import { startRefusal } from "../decisions/life/refusals.ts";
import { containerOfId } from "../decisions/lookup.ts";
import type { LiveContainer } from "../live/live.ts";
import { StartPhases } from "../live/start-phases.ts";
import { journalStart, refuseUnlessKept, releasedBefore } from "./journal-start.ts";
import { launch, makeImagesRunnable } from "./launch-start.ts";
import { withNextStep } from "./next-step.ts";
import { prepareAgent } from "./prepare-agent.ts";
import { recordFailure, recordStarted, takeBack } from "./record-start.ts";
import { made, type Start } from "./start.ts";
import { type Verb, performSteps } from "../../work/steps.ts";
import { settleUnansweredStart, startProcess, UndeliveredStart } from "./start-process.ts";
import { asStartUnderWay, repeatedStart } from "./start-under-way.ts";
import { reportPhase } from "./report-phases.ts";
import { callerOf, isWantedByPolicy, awaitCaller } from "./wanted-start.ts";

/**
 * The steps of a start, until its process runs. A backend that resumes a start at its own start begins with the second
 * step: each step finds what was done before. A failure after the first step undoes the start as a whole: the driver
 * releases everything of a run.
 */
export const startSteps: Verb<Start> = {
  name: "start",
  steps: [
    { name: "journal", run: journalStart },
    { name: "log", run: ({ record }) => requireLog(record) },
    { name: "volume-parts", run: makeVolumeParts },
    { name: "images", run: makeImagesRunnable },
    { name: "run", run: run },
    { name: "record", run: recordStarted },
  ],
  failed: takeBack,
};

/** The steps of `run`, repeated if the agent is lost after the first and no process has begun. */
export const runSteps: Verb<Start> = {
  name: "start",
  steps: [
    { name: "launch", run: launch },
    { name: "agent", run: prepareAgent },
    { name: "caller", run: awaitCaller },
    { name: "process", run: beginProcess },
  ],
};

/** Options that apply to this start only. */
export interface StartOnce {
  readonly secrets?: StartSecrets | undefined;
  /** The next step of a build, to run in the same place as the last one. */
  readonly nextStep?: NextStep | undefined;
  /** The request's token; empty if it will not be retried. */
  readonly clientToken?: string | undefined;
  /** Ends the wait for other changes of the container; undefined if the start is a part of one that has begun. */
  readonly queued?: AbortSignal | undefined;
}

/** A container's ports as reported by the frontend that publishes them. */
export interface FrontendPorts {
  /** Ports that it listens on. */
  readonly published: readonly PortMapping[];
  /** The error that fails the start if it cannot listen; empty if it listens. */
  readonly publishFailure: string;
}

/**
 * Starts a container and returns once its process runs. Once begun it continues when the client leaves, unless it waits
 * for capacity on the platform; if the call is lost and not retried, nothing runs.
 *
 * @param by `policy`: a start by the restart policy, which does nothing in any other state than `restarting`
 * @param ports as reported by the frontend; undefined: unchanged
 * @param left aborts when the client has left; undefined if there is none
 * @throws not-modified: it runs; conflict: it is being removed, or the start was cancelled meanwhile; invalid: the
 *   command cannot be executed; the errors of {@link withNextStep} and the driver
 */
export async function startContainer(
  context: EngineContext,
  containerId: string,
  by: "user" | "policy" = "user",
  ports?: FrontendPorts,
  left?: AbortSignal,
  { secrets, nextStep, clientToken = "", queued }: StartOnce = {},
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
      throw live.startEnded; // This start was requested before the user cancelled it.
    }
    if (!isDue(context, live, record, by, clientToken)) {
      return;
    }
    const phases = new StartPhases();
    const caller =
      by === "user" && left !== undefined
        ? callerOf(context, live, { token: clientToken, isWantedAnyway: isWantedByPolicy(record) })
        : undefined;
    const work = async (ended: AbortSignal): Promise<void> => {
      if (left !== undefined) {
        live.run.start?.caller?.follow(live.restartCalls.latest(clientToken) ?? left);
      }
      reportPhase(context, containerId, phases, { name: "accepted", by: "backend", from: accepted });
      await releasedBefore(context, live, record, ended);
      if (ports !== undefined && ports.publishFailure !== "") {
        throw await recordFailure(context, live, record, systemError(ports.publishFailure));
      }
      if (nextStep !== undefined) {
        refuseUnlessKept(context, live, secrets);
      }
      const step = nextStep === undefined ? undefined : await withNextStep(context, record, nextStep);
      const next = step?.record ?? record;
      const published =
        ports === undefined ? next : withFields(next, { publishedPorts: [...ports.published] });
      const told = withFields(published, { startPhases: phases.list });
      const asked = by === "user" ? { clientToken } : undefined;
      const start = { context, live, record: told, asked, ended, phases, mayHaveBegun: false, secrets, step };
      await performSteps(startSteps, start);
    };
    await asStartUnderWay(live, phases, work, caller);
  }, queued);
}

/**
 * Whether there is anything to start. The container's lock is held.
 *
 * @throws the refusal of a user's start
 */
function isDue(
  { driver, state }: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  by: "user" | "policy",
  clientToken: string,
): boolean {
  if (by === "policy") {
    // Otherwise somebody has stopped, started or removed it.
    return stateOf(record).status === ContainerStatus.RESTARTING;
  }
  if (clientToken !== "" && record.startToken === clientToken) {
    return false; // An earlier process of the backend made this start, but died before it answered.
  }
  const refusal =
    startRefusal(record, live.run.isRemoving) ?? waitRefusal(state, driver.volumes.rules, record);
  if (refusal !== undefined) {
    throw refusal;
  }
  live.restartDelayMs = 0;
  return true;
}

async function makeVolumeParts({ context, record, ended }: Start): Promise<void> {
  await unlessAborted(ended, ensureVolumeParts(context, record));
}

async function run(start: Start): Promise<void> {
  for (;;) {
    start.launched = undefined;
    start.met = undefined;
    try {
      await performSteps(runSteps, start);
      return;
    } catch (error) {
      if (error instanceof LaterStart) {
        await goOnAs(start, error.generation);
      } else if (start.launched === undefined || !(await mayLaunchAgain(start, error))) {
        throw error;
      }
    }
  }
}

/** Continues as the later start of which the container runs: the state is older than that one. */
async function goOnAs(start: Start, generation: bigint): Promise<void> {
  const { context, live } = start;
  context.logger.warn({ container: live.id }, "a container was started again since the state knew it");
  start.record = withFields(containerOfId(context.state, live.id), { generation });
  start.mayHaveBegun = true;
  await context.state.commit((change) => change.containers.put(start.record), "under-way");
}

async function beginProcess(start: Start): Promise<void> {
  const { context, live, record } = start;
  const { link } = made(start.met);
  const unwanted = live.run.start?.caller?.unwanted;
  start.started = await startProcess(link, made(start.request), unwanted).catch((error: unknown) => {
    start.isTold ||= !(error instanceof UndeliveredStart);
    return settleUnansweredStart(context, record, link, error);
  });
}

/**
 * Asks the driver whether a start whose agent did not answer can continue with another launch. An attachment that was given
 * the agent's address needs that same agent; a build step cannot be launched again, as it runs in the place of the last one.
 */
async function mayLaunchAgain(start: Start, error: unknown): Promise<boolean> {
  const { context, live, record, ended, step, isTold = false } = start;
  const failure = fromUnknown(error);
  const isLost = isErrorKind(failure, "unavailable") && !ended.aborted && !context.shutdown.aborted;
  if (!isLost || step !== undefined) {
    return false;
  }
  const goesOn = await context.driver.launches.mayLaunchAgain(record.id, { isTold, failure });
  if (goesOn) {
    live.run.leave();
    const isAttached = live.reservations.areServed;
    start.lost = { agent: made(start.launched).agent, failure, isTold, isAttached };
    if (!isAttached) {
      live.reservations.end();
    }
  }
  return goesOn;
}
