/** Starting a container: its steps in order, and what takes them back. */
import { fromUnknown, isErrorKind, systemError } from "../../../../common/errors.ts";
import {
  ContainerStatus,
  type NextStep,
  type PortMapping,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { unlessAborted } from "../../../concurrency/unless-aborted.ts";
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
import { type Verb, walk } from "../../work/steps.ts";
import { begunBefore, startProcess, UndeliveredStart } from "./start-process.ts";
import { asStartUnderWay, repeatedStart } from "./start-under-way.ts";
import { tellPhase } from "./tell-phases.ts";
import { callerOf, isWantedByPolicy, stillWanted } from "./wanted-start.ts";

/**
 * The steps of a start, until its process runs. A process of the backend that takes the start up walks them from the second on:
 * each finds what is there of it. What fails behind the first is taken back as a whole: the driver releases all of a run.
 */
export const startSteps: Verb<Start> = {
  name: "start",
  steps: [
    { name: "journal", does: journalStart },
    { name: "log", does: ({ record }) => requireLog(record) },
    { name: "volume-parts", does: makeVolumeParts },
    { name: "images", does: makeImagesRunnable },
    { name: "run", does: run },
    { name: "record", does: recordStarted },
  ],
  failed: takeBack,
};

/** The steps of `run`, which are done anew where the agent is lost behind the first and nothing has begun. */
export const runSteps: Verb<Start> = {
  name: "start",
  steps: [
    { name: "launch", does: launch },
    { name: "agent", does: prepareAgent },
    { name: "caller", does: stillWanted },
    { name: "process", does: beginProcess },
  ],
};

/** Parts of a user's start that hold for it alone. */
export interface StartOnce {
  readonly secrets?: StartSecrets | undefined;
  /** A container of a build runs another step, where it ran before. */
  readonly nextStep?: NextStep | undefined;
  /** The request's; empty: it is not going to be repeated. */
  readonly clientToken?: string | undefined;
}

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
    const work = async (ended: AbortSignal): Promise<void> => {
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
      const published =
        ports === undefined ? next : withFields(next, { publishedPorts: [...ports.published] });
      const told = withFields(published, { startPhases: phases.list });
      const asked = by === "user" ? { clientToken } : undefined;
      const start = { context, live, record: told, asked, ended, phases, mayHaveBegun: false, secrets, step };
      await walk(startSteps, start);
    };
    await asStartUnderWay(live, phases, work, caller);
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

async function makeVolumeParts({ context, record, ended }: Start): Promise<void> {
  await unlessAborted(ended, ensureVolumeParts(context, record));
}

async function run(start: Start): Promise<void> {
  for (;;) {
    start.met = undefined;
    start.isTold = start.mayHaveBegun;
    try {
      await walk(runSteps, start);
      return;
    } catch (error) {
      if (start.met === undefined || !(await mayLaunchAgain(start, error))) {
        throw error;
      }
    }
  }
}

async function beginProcess(start: Start): Promise<void> {
  const { context, live, record } = start;
  const { link } = made(start.met);
  const unwanted = live.run.start?.caller?.unwanted;
  start.started = await startProcess(link, made(start.request), unwanted).catch((error: unknown) => {
    start.isTold ||= !(error instanceof UndeliveredStart);
    return begunBefore(context, record, link, error);
  });
}

/**
 * Asks the driver whether a start goes on without the agent that it had. An attachment that was given its address is lost with
 * it, and so is the place of a build's step: then it does not.
 */
async function mayLaunchAgain(
  { context, live, record, ended, step, isTold = false }: Start,
  error: unknown,
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
