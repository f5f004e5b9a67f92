/** Starting a container: journalled, launched by the driver, started by its agent. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { conflict, fromUnknown, SockerlessError, systemError } from "../../../../common/errors.ts";
import {
  type StartedProcess,
  type StartRequest,
  StartRequestSchema,
} from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import { ContainerStatus, type PortMapping } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, Phase } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Launched, Workloads } from "../../driver.ts";
import { agentOptions } from "../agent-endpoint.ts";
import { requireLog } from "../container-log.ts";
import type { EngineContext } from "../context.ts";
import { containerEvent, mountEvents, networkEvents } from "../events/container-events.ts";
import type { AgentLink, LiveContainer } from "../live.ts";
import { containerOfId } from "../lookup.ts";
import { agentHealthCheck } from "../machine/health.ts";
import { startRefusal } from "../machine/refusals.ts";
import { startFailureError, unknownFailureCode } from "../machine/start-failure.ts";
import { running, startFailed, starting } from "../machine/transitions.ts";
import { connectedEndpoints, placedEndpoints, withSharedHostname } from "../network/endpoints.ts";
import { announceChange, introduce } from "../network/name-pushes.ts";
import { announceSharers, joinPartners } from "../network/partner-pushes.ts";
import { joinedBy } from "../network/shared-network.ts";
import { boundPortsOf } from "../ports.ts";
import { configOf, hostConfigOf, stateOf, timestampOfNs, withFields } from "../records.ts";
import { throwIfShuttingDown } from "../shutting-down.ts";
import { unlessAborted } from "../../unless-aborted.ts";
import { ensureVolumeParts } from "../volume-parts.ts";
import { workloadOf } from "../workload.ts";
import { releaseRun } from "./release-run.ts";
import { asStartUnderWay, endedStart } from "./start-under-way.ts";
import { launchWhileWanted } from "./waiting-start.ts";
import { watchContainer } from "./watch-container.ts";

/** How long attach sessions of reservations are awaited. */
const attachTimeoutMs = 10_000;
/** How long the agent may take beyond that. */
const startTimeoutMs = 60_000;
/** What agents say in `Hello.features` that load seccomp profiles. */
const seccompFeature = "seccomp";
/** Between looks at a start that another one waits for. */
const donorPollMs = 50;

/** What a driver adds to the request of a start. */
type StartDetails = Awaited<ReturnType<NonNullable<Workloads["startDetails"]>>>;

/** A start that failed, with the exit code that inspect shows. */
class FailedStart extends Error {
  readonly exitCode: number;
  readonly reason: SockerlessError;

  constructor(exitCode: number, reason: SockerlessError) {
    super(reason.message, { cause: reason });
    this.exitCode = exitCode;
    this.reason = reason;
  }
}

/** What a frontend that publishes says of a container's ports. */
export interface FrontendPorts {
  /** What it listens on. */
  readonly published: readonly PortMapping[];
  /** Why it cannot listen: the start fails with it. Empty: it does. */
  readonly publishFailure: string;
}

/**
 * Starts a container and answers once its process runs. Goes on when the client leaves, unless it waits for room on the
 * platform.
 *
 * @param by `policy`: a restart policy starts it; in any other state than `restarting` nothing is done
 * @param ports what a frontend says of them; undefined: it listens on what it listened on before
 * @param left the client that asked has left; undefined: none has
 * @throws not-modified: it runs; conflict: it goes, or the start was ended meanwhile; invalid: the command cannot be
 *   executed; what the driver throws
 */
export async function startContainer(
  context: EngineContext,
  containerId: string,
  by: "user" | "policy" = "user",
  ports?: FrontendPorts,
  left?: AbortSignal,
): Promise<void> {
  const live = context.live.of(containerId);
  const endedBefore = live.startEnded;
  await live.lock.run(async () => {
    const record = containerOfId(context.state, containerId);
    if (live.startEnded !== undefined && live.startEnded !== endedBefore) {
      throw live.startEnded; // Asked for before a user said otherwise.
    }
    const refusal = by === "user" ? startRefusal(record, live.removing) : undefined;
    if (refusal !== undefined) {
      throw refusal;
    }
    if (by === "policy" && stateOf(record).status !== ContainerStatus.RESTARTING) {
      return; // Somebody has stopped, started or removed it while its restart was due.
    }
    live.endedByUser = false;
    if (by === "user") {
      live.restartDelayMs = 0;
    }
    await asStartUnderWay(live, async (ended) => {
      live.restarting = false; // What ends from here on is the run that it has been restarted for.
      await releasedBefore(context, live, ended);
      if (ports !== undefined && ports.publishFailure !== "") {
        throw await recordFailure(context, live, record, systemError(ports.publishFailure));
      }
      const asked =
        ports === undefined ? record : withFields(record, { publishedPorts: [...ports.published] });
      const begun = await beginStart(context, live, asked, by);
      await runStart(context, live, begun, ended, { left });
    });
  });
}

/** Waits until what the run before has left is away. @throws the failure of a start that is ended meanwhile */
async function releasedBefore(
  context: EngineContext,
  live: LiveContainer,
  ended: AbortSignal,
): Promise<void> {
  try {
    await unlessAborted(ended, live.released);
  } catch (error) {
    const stoppedByUser = ended.reason === live.startEnded;
    const record = withFields(containerOfId(context.state, live.id), { stoppedByUser });
    throw await recordFailure(context, live, record, error);
  }
}

/** With the container's lock held: takes addresses and journals the intention. */
async function beginStart(
  context: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  by: "user" | "policy",
): Promise<ContainerRecord> {
  let joined: ContainerRecord;
  try {
    const endpoints = connectedEndpoints(context.state, context.addresses, record);
    joined = starting(withSharedHostname(context.state, record), endpoints);
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    const wrapped = new SockerlessError(kind, `failed to set up container networking: ${message}`, error);
    throw await recordFailure(context, live, record, wrapped);
  }
  const begun = by === "user" ? withFields(joined, { restartCount: 0 }) : joined;
  await context.state.commit((change) => change.containers.put(begun));
  return begun;
}

/**
 * Takes up a start that was under way when the backend ended, or takes it back where a user was ending it; the record is
 * in the phase `starting`.
 */
export async function resumeStart(context: EngineContext, record: ContainerRecord): Promise<void> {
  const live = context.live.of(record.id);
  await live.lock.run(() =>
    asStartUnderWay(live, async (ended) => {
      if (record.stoppedByUser) {
        await recordFailure(context, live, record, endedStart(record.id, "stopped"));
        return;
      }
      try {
        await runStart(context, live, record, ended, {
          ready: () => settledDonor(context, record, ended),
        });
      } catch (error) {
        if (error !== live.startEnded) {
          throw error;
        }
      }
    }),
  );
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

/**
 * With the container's lock held: from the journalled intention to a running process, or back.
 *
 * @param ended aborts when the start is ended: from the call of its agent on there is a process to end instead
 * @param ready what comes first
 * @param left as for {@link startContainer}
 */
async function runStart(
  context: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  ended: AbortSignal,
  { ready, left }: { readonly ready?: () => Promise<void>; readonly left?: AbortSignal | undefined },
): Promise<void> {
  try {
    await ready?.();
    requireLog(record);
    await unlessAborted(ended, ensureVolumeParts(context, record));
    const spec = workloadOf(context, record, live.reservations.ids(), "joined");
    let meeting: Promise<Met> | undefined;
    const meet = (launched: Launched): Promise<Met> => {
      meeting ??= meetAgent(context, live, record, launched);
      return meeting;
    };
    const launched = await launchWhileWanted(context, live, spec, ended, {
      reached: async (reached) => void (await meet(reached)),
      left,
    });
    const { link, placed } = await meet(launched);
    await joinPartners(context, placed);
    const details = await context.driver.workloads.startDetails?.(
      workloadOf(context, placed, spec.awaitAttachIds, "joined"), // A linked container may have moved meanwhile.
    );
    const request = startRequestOf(context, live, placed, details);
    await refuseOldAgent(link, request);
    ended.throwIfAborted();
    const started = await startProcess(link, request);
    await recordRunning(context, placed, launched, started);
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

/** What the driver has kept in case the start fails. */
function forgetBeforeStart({ driver: { workloads }, background }: EngineContext, containerId: string): void {
  if (workloads.started !== undefined) {
    const settled = workloads.started(containerId);
    void background.run(`forget what the start of container ${containerId} has used`, () => settled);
  }
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
  const link = live.connect(launched.agent, record.generation, agentOptions(context, record.id));
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
  const placed = withFields(record, {
    reachableAddress: address,
    endpoints: placedEndpoints(record.endpoints, address),
  });
  await context.state.commit((change) => change.containers.put(placed));
  return placed;
}

function startRequestOf(
  context: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  details: StartDetails | undefined,
): StartRequest {
  const config = configOf(record);
  const check = context.driver.capabilities.healthChecks ? agentHealthCheck(config) : undefined;
  return create(StartRequestSchema, {
    ...details,
    generation: record.generation,
    awaitAttachIds: live.reservations.ids(),
    awaitAttachTimeoutMs: attachTimeoutMs,
    openStdin: config.openStdin,
    stdinOnce: config.stdinOnce,
    ...(check === undefined ? {} : { healthCheck: check }),
  });
}

/** An agent that is older than profiles would leave the container without its filter. */
async function refuseOldAgent(link: AgentLink, { process }: StartRequest): Promise<void> {
  if (process?.seccomp === undefined) {
    return;
  }
  const { features, version } = await link.agent.client.hello({}, { timeoutMs: startTimeoutMs });
  if (!features.includes(seccompFeature)) {
    throw systemError(`the container's agent (${version}) is too old to load a seccomp profile`);
  }
}

async function startProcess(link: AgentLink, request: StartRequest): Promise<StartedProcess> {
  const { result } = await callStart(link, request);
  switch (result.case) {
    case "started":
      return result.value;
    case "failure":
      throw new FailedStart(result.value.exitCode, startFailureError(result.value));
    default:
      throw systemError("the container's agent answered its start with nothing");
  }
}

/** A start may be repeated with the same generation: once, where its answer was lost. */
async function callStart(link: AgentLink, request: StartRequest) {
  const options = { timeoutMs: attachTimeoutMs + startTimeoutMs };
  try {
    return await link.agent.client.start(request, options);
  } catch (error) {
    if (!(error instanceof ConnectError) || error.code !== Code.Unavailable) {
      throw error;
    }
    return await link.agent.client.start(request, options);
  }
}

async function recordRunning(
  context: EngineContext,
  record: ContainerRecord,
  launched: Launched,
  started: StartedProcess,
): Promise<void> {
  const byFrontend = context.driver.policy.publishesPorts === "frontend";
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
  });
}

/** @returns the error to answer */
async function recordFailure(
  context: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  error: unknown,
): Promise<SockerlessError> {
  const reason = error instanceof FailedStart ? error.reason : fromUnknown(error);
  const exitCode = error instanceof FailedStart ? error.exitCode : unknownFailureCode;
  const failed = startFailed(record, exitCode, reason.message);
  await context.state.commit((change) => change.containers.put(failed));
  live.disconnect();
  live.reservations.fail(conflict(reason.message, reason)); // Whatever the reason: `unavailable` is a lost backend.
  if (stateOf(record).status === ContainerStatus.RESTARTING) {
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
