/** Starting a container: journalled, launched by the driver, started by its agent. */
import { isDeepStrictEqual } from "node:util";

import { timestampFromDate } from "@bufbuild/protobuf/wkt";

import {
  conflict,
  fromUnknown,
  isErrorKind,
  SockerlessError,
  systemError,
} from "../../../../common/errors.ts";
import type { StartedProcess } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import {
  ContainerStatus,
  type NetworkEndpoint,
  type NextStep,
  type PortMapping,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, Phase } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Launched } from "../../../driver/launches.ts";
import type { StartSecrets } from "../../../driver/workload-spec.ts";
import { agentOptions } from "../agent/agent-endpoint.ts";
import { requireLog } from "../decisions/container-log.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent, mountEvents, networkEvents } from "../../events/decisions/container-events.ts";
import { AgentLink } from "../live/agent-link.ts";
import type { LiveContainer } from "../live/live.ts";
import { StartPhases } from "../live/start-phases.ts";
import { containerOfId } from "../decisions/lookup.ts";
import { startRefusal } from "../decisions/life/refusals.ts";
import { type Continued, withNextStep } from "./next-step.ts";
import { putLayers } from "./put-layers.ts";
import { restartsAtBoot } from "../decisions/life/restart-policy.ts";
import { unknownFailureCode } from "../decisions/life/start-failure.ts";
import { running, startFailed, starting, startNotMade } from "../decisions/life/transitions.ts";
import { awaitAddresses, connectedEndpoints, releaseAddresses } from "../../networks/endpoint-addresses.ts";
import { isOfBuild } from "../../../model/build-label.ts";
import { type Endpoints, placedEndpoints } from "../../../model/endpoints.ts";
import { withSharedHostname } from "../../networks/decisions/endpoints.ts";
import { announceChange, introduce } from "../../networks/name-pushes.ts";
import { announceSharers, joinPartners } from "../../networks/partner-pushes.ts";
import { joinedBy } from "../../networks/decisions/shared-network.ts";
import { boundPortsOf } from "../../../model/ports.ts";
import { configOf, hostConfigOf, stateOf, timestampOfNs, withFields } from "../../../model/records.ts";
import { throwIfShuttingDown } from "../../work/shutting-down.ts";
import { withScopedSignal } from "../../../concurrency/scoped-signal.ts";
import { unlessAborted } from "../../../concurrency/unless-aborted.ts";
import { waitRefusal } from "../../volumes/decisions/exclusive-volumes.ts";
import { ensureVolumeParts } from "../../volumes/volume-parts.ts";
import { workloadOf } from "../create/workload.ts";
import { releaseRun } from "../run/release-run.ts";
import { StartCaller, type StartCallerOptions } from "./start-caller.ts";
import {
  begunBefore,
  FailedStart,
  hasBegun,
  refuseOldAgent,
  startProcess,
  startRequestOf,
} from "./start-process.ts";
import { asStartUnderWay, endedStart, repeatedStart } from "./start-under-way.ts";
import { tellFailed, tellPhase, tellProcess, tellStarted } from "./tell-phases.ts";
import { launchWhileWanted } from "./waiting-start.ts";
import { watchContainer } from "../run/watch-container.ts";

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
    if (clientToken !== "" && record.startToken === clientToken) {
      return; // The process of the backend that made this start was ended before its answer came.
    }
    const refusal =
      by === "user"
        ? (startRefusal(record, live.run.isRemoving) ??
          waitRefusal(context.state, context.driver.volumes.rules, record))
        : undefined;
    if (refusal !== undefined) {
      throw refusal;
    }
    if (by === "policy" && stateOf(record).status !== ContainerStatus.RESTARTING) {
      return; // Somebody has stopped, started or removed it while its restart was due.
    }
    if (by === "user") {
      live.restartDelayMs = 0;
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
      const begun = await beginStart(context, live, told, by === "user" ? { clientToken } : undefined);
      await runStart(context, live, begun, ended, { secrets, step });
    };
    await asStartUnderWay(live, phases, start, caller);
  });
}

/** Makes the caller of a start. @param mayHaveBegun its process may run already: only its agent knows whether it can be undone */
function callerOf(
  context: EngineContext,
  live: LiveContainer,
  known: Pick<StartCallerOptions, "token" | "isWantedAnyway">,
  mayHaveBegun = false,
) {
  return (ending: AbortController): StartCaller =>
    new StartCaller({
      ...known,
      containerId: live.id,
      clock: context.clock,
      lost: (failure) => mayHaveBegun || ending.abort(failure),
      left: () => void noteCallerLeft(context, live),
    });
}

/** Notes that nobody waits for the answer of the start that is under way: a later process of the backend goes on with it. */
async function noteCallerLeft({ background, state }: EngineContext, { id }: LiveContainer): Promise<void> {
  await background.run(`note that the start of container ${id} goes on without its client`, async () => {
    const record = state.containers.get(id);
    if (record?.phase === Phase.STARTING && record.startAwaited) {
      await state.commit((change) => change.containers.put(withFields(record, { startAwaited: false })));
    }
  });
}

/**
 * Refuses a step that would fail in the driver, before anything is recorded of its start.
 *
 * @throws conflict: what the last one ran in is gone, or this one has what stays in memory until a release
 */
function refuseUnlessKept(
  { driver }: EngineContext,
  { id, kept }: LiveContainer,
  secrets: StartSecrets | undefined,
): void {
  const hasSecrets = secrets !== undefined && secrets.files.length + secrets.env.length > 0;
  if (driver.launches.steps.kind === "in-fresh-files" && (kept === undefined || hasSecrets)) {
    throw conflict(`nothing is kept of container ${id} that another step could run in`);
  }
}

/**
 * Waits until what the run before has left is away, and until runs of others that have ended have released its addresses.
 *
 * @throws the failure of a start that is ended meanwhile
 */
async function releasedBefore(
  context: EngineContext,
  live: LiveContainer,
  { endpoints }: ContainerRecord,
  ended: AbortSignal,
): Promise<void> {
  try {
    await unlessAborted(ended, live.released);
    await awaitAddresses(context.state, context.addresses, endpoints, ended);
  } catch (error) {
    const stoppedByUser = ended.reason === live.startEnded;
    const record = withFields(containerOfId(context.state, live.id), { stoppedByUser });
    throw await recordFailure(context, live, record, error);
  }
}

/**
 * With the container's lock held: takes addresses and journals the intention.
 *
 * @param asked a user's start; undefined: a restart policy's
 */
async function beginStart(
  context: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  asked: { readonly clientToken: string } | undefined,
): Promise<ContainerRecord> {
  let joined: ContainerRecord;
  try {
    const named = withSharedHostname(context.state, record);
    joined = starting(
      named,
      networked(
        () =>
          keptEndpoints(context, live, named) ?? connectedEndpoints(context.state, context.addresses, named),
      ),
    );
  } catch (error) {
    throw await recordFailure(context, live, record, error);
  }
  const startAwaited = live.run.start?.caller?.left.aborted === false;
  const begun =
    asked === undefined
      ? withFields(joined, { startAwaited })
      : withFields(joined, { restartCount: 0, startToken: asked.clientToken, startAwaited });
  await context.state.commit((change) => change.containers.put(begun));
  return begun;
}

/** The endpoints of the last run, where a driver has kept them; undefined: nothing is kept, or it has others by now. */
function keptEndpoints(
  { addresses }: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
): Record<string, NetworkEndpoint> | undefined {
  const kept = live.kept;
  live.kept = undefined;
  const networksOf = (endpoints: Endpoints) => new Set(Object.keys(endpoints));
  if (kept === undefined || isDeepStrictEqual(networksOf(kept), networksOf(record.endpoints))) {
    return kept;
  }
  releaseAddresses(addresses, kept);
  return undefined;
}

/** @throws what the preparation of networks does, in dockerd's words */
function networked<Result>(prepare: () => Result): Result {
  try {
    return prepare();
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    throw new SockerlessError(kind, `failed to set up container networking: ${message}`, error);
  }
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
  let isEnded = record.stoppedByUser;
  const start = async (ended: AbortSignal): Promise<void> => {
    live.run.start?.caller?.lose();
    if (isEnded) {
      throw await recordFailure(context, live, record, endedStart(record.id, "stopped"));
    }
    try {
      const ready = () => settledDonor(context, record, ended);
      await runStart(context, live, record, ended, { ready, mayHaveBegun });
    } catch (error) {
      isEnded = ended.aborted;
      throw error;
    }
  };
  try {
    await live.lock.run(() => asStartUnderWay(live, new StartPhases(record.startPhases), start, caller));
  } catch (error) {
    if (!isEnded) {
      throw error;
    }
  }
}

/** Whether a restart policy wants a start whose client is lost. */
function isWantedByPolicy(record: ContainerRecord): boolean {
  return restartsAtBoot(hostConfigOf(record).restartPolicy, { code: unknownFailureCode, restartCount: 0 });
}

/** Waits until the container whose network this one shares has started, or has not: that start may be taken up, too. */
async function settledDonor(
  context: EngineContext,
  record: ContainerRecord,
  ended: AbortSignal,
): Promise<void> {
  while (joinedBy(context, record)?.phase === Phase.STARTING) {
    await context.clock.sleep(donorPollMs, AbortSignal.any([ended, context.shutdown]));
  }
}

interface RunStartOptions {
  /** Comes first. */
  readonly ready?: () => Promise<void>;
  /** As for {@link resumeStart}. */
  readonly mayHaveBegun?: boolean;
  readonly secrets?: StartSecrets | undefined;
  /** The container runs where it ran before. */
  readonly step?: Pick<Continued, "missingLayers"> | undefined;
}

/**
 * With the container's lock held: from the journalled intention to a running process, or back.
 *
 * @param ended aborts when the start is ended: from the call of its agent on there is a process to end instead
 */
async function runStart(
  context: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  ended: AbortSignal,
  { ready, mayHaveBegun = false, secrets, step }: RunStartOptions,
): Promise<void> {
  const continues = step !== undefined;
  const phases = live.run.start?.phases ?? new StartPhases();
  try {
    await ready?.();
    requireLog(record);
    await unlessAborted(ended, ensureVolumeParts(context, record));
    if (!continues) {
      await makeStatesRunnable(context, record, ended);
    }
    const workload = workloadOf(context, record, live.reservations.ids(), "joined");
    const once = secrets === undefined ? {} : { secrets };
    const spec = { ...workload, ...once, continues };
    let meeting: Promise<Met> | undefined;
    const meet = (launched: Launched): Promise<Met> => {
      meeting ??= meetAgent(context, live, record, launched);
      return meeting;
    };
    const launched = await launchWhileWanted(context, live, spec, ended, {
      reached: async (reached) => void (await meet(reached)),
      phase: (phase) => tellPhase(context, record.id, phases, phase),
      left: live.run.start?.caller?.left,
    });
    const { link, placed } = await meet(launched);
    await joinPartners(context, placed);
    const details = await context.driver.launches.startDetails({
      ...workloadOf(context, placed, spec.awaitAttachIds, "joined"), // A linked container may have moved meanwhile.
      ...once,
    });
    const changesAnew = continues && context.driver.launches.steps.kind === "in-its-files";
    const request = { ...startRequestOf(context, live, placed, details), changesAnew };
    const count = step?.missingLayers ?? 0;
    await refuseOldAgent(link, request, count);
    if (count > 0) {
      await putLayers(context.images, link, { imageId: record.imageId, count }, ended);
    }
    await stillWanted(context, live, link, ended, mayHaveBegun);
    ended.throwIfAborted();
    const started = await startProcess(link, request).catch((error: unknown) =>
      begunBefore(context, record, error),
    );
    tellProcess(context, record.id, phases, launched, started);
    await recordRunning(context, withFields(placed, { startPhases: phases.list }), launched, started);
    tellStarted(context, record.id, phases, launched);
    live.run.succeed();
    live.reservations.end();
    forgetBeforeStart(context, record.id);
  } catch (error) {
    throwIfShuttingDown(context, error);
    const isEnded = ended.aborted && !(error instanceof FailedStart);
    const stoppedByUser = ended.aborted && ended.reason === live.startEnded; // Or its client has left.
    const asked = withFields(record, { stoppedByUser });
    throw await recordFailure(context, live, asked, isEnded ? ended.reason : error);
  }
}

/**
 * Waits, where the caller of a start was lost, until it asks again: once the agent is told, the process runs.
 *
 * @throws conflict: nobody has asked again; the signal's reason
 */
async function stillWanted(
  { shutdown }: EngineContext,
  { run: { start } }: LiveContainer,
  link: AgentLink,
  ended: AbortSignal,
  mayHaveBegun: boolean,
): Promise<void> {
  const caller = start?.caller;
  const isBegun = async (): Promise<boolean> => mayHaveBegun && (await hasBegun(link));
  if (caller === undefined || (caller.isLost && (await isBegun()))) {
    return;
  }
  try {
    await withScopedSignal(AbortSignal.any([ended, shutdown]), (signal) =>
      unlessAborted(signal, caller.wanted),
    );
  } catch (error) {
    if (!(await isBegun())) {
      throw error;
    }
  }
}

/** States of a build may have waited for this start, or for that of a user who names one: they are made runnable only now. */
async function makeStatesRunnable(
  { images, state }: EngineContext,
  record: ContainerRecord,
  signal: AbortSignal,
): Promise<void> {
  const isBuilding = isOfBuild(configOf(record).labels);
  for (const id of [record.imageId, ...record.imageMounts.map(({ imageId }) => imageId)]) {
    const image = state.images.get(id);
    if (image !== undefined && (isBuilding || image.ofBuild)) {
      await images.makeRunnable(image, signal);
    }
  }
}

/** Has the driver forget, behind the start, what it has kept in case the start fails. */
function forgetBeforeStart({ driver, background }: EngineContext, containerId: string): void {
  const settled = driver.launches.started(containerId);
  void background.run(`forget what the start of container ${containerId} has used`, () => settled);
}

/** A container whose agent answers. */
interface Met {
  readonly link: AgentLink;
  /** Its record, with the address that peers are told. */
  readonly placed: ContainerRecord;
}

/** Links the container to its agent, and tells it and its peers each other's names. */
async function meetAgent(
  context: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  launched: Launched,
): Promise<Met> {
  const link = new AgentLink(launched.agent, record.generation, agentOptions(context, record.id));
  live.run.meet(link);
  live.reservations.serve(launched.agent);
  watchContainer(context, live, link);
  const placed = await place(context, record, launched);
  await introduce(context, placed);
  return { link, placed };
}

/** With the address that peers are told, where those of its endpoints are virtual. */
async function place(
  context: EngineContext,
  record: ContainerRecord,
  { address }: Launched,
): Promise<ContainerRecord> {
  if (address === undefined) {
    return record;
  }
  // Its client may have left since the start began, or a user have stopped it.
  const { startAwaited, stoppedByUser } = containerOfId(context.state, record.id);
  const placed = withFields(record, {
    ...{ startAwaited, stoppedByUser },
    reachableAddress: address,
    endpoints: placedEndpoints(record.endpoints, address),
  });
  await context.state.commit((change) => change.containers.put(placed));
  return placed;
}

/** Records a run that began in a start whose backend was lost, and whose agent is gone: its end is to follow. */
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
    context.driver.capabilities.healthChecks,
  );
  await context.state.commit((change) => {
    change.containers.put(next);
    for (const exec of context.state.execs.values()) {
      if (exec.containerId === record.id && exec.generation !== record.generation) {
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
 * Records a start that failed. Where something that it needs cannot be reached, the container keeps its last exit, and goes
 * on restarting.
 *
 * @returns the error to answer
 */
async function recordFailure(
  context: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  error: unknown,
): Promise<SockerlessError> {
  const reason = error instanceof FailedStart ? error.reason : fromUnknown(error);
  const exitCode = error instanceof FailedStart ? error.exitCode : unknownFailureCode;
  const startPhases = live.run.start?.phases.list ?? record.startPhases;
  const told = withFields(record, { startPhases });
  const isMade = record.phase !== Phase.STARTING || !isErrorKind(reason, "unavailable");
  const failed = isMade ? startFailed(told, exitCode, reason.message) : startNotMade(told, reason.message);
  await context.state.commit((change) => change.containers.put(failed), "happened");
  tellFailed(context, record.id, startPhases, reason);
  live.run.leave();
  live.reservations.fail(conflict(reason.message, reason)); // A conflict for any reason: `unavailable` would mean a lost backend.
  if (isMade && stateOf(record).status === ContainerStatus.RESTARTING) {
    live.waiters.tellExit({ exitCode, error: reason.message }); // It does not run again, as its policy had promised.
  }
  releaseRun(context, live, record.endpoints);
  announceChange(context, record.id, record.endpoints);
  announceSharers(context, record);
  if (hostConfigOf(record).autoRemove) {
    context.followUps.autoRemove(record.id);
  }
  return reason;
}
