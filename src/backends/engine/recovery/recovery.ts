/**
 * The engine's start: reconciles the state with what exists. Running containers are adopted, the ends of others are
 * recorded with their true exit codes, interrupted changes are finished or undone, and anything unexplained is reported
 * and left alone.
 */
import { create } from "@bufbuild/protobuf";

import { isErrorKind, messageOf, unavailable } from "../../../common/errors.ts";
import { newId, shortId } from "../../../common/ids.ts";
import { ContainerStatus } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import {
  type IpamPool,
  IpamPoolSchema,
  NetworkSchema,
} from "../../../gen/sockerless/backend/v1/network_pb.ts";
import {
  type ContainerRecord,
  NetworkRecordSchema,
  Phase,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { FoundWorkload } from "../../driver/workloads.ts";
import type { EngineContext } from "../context.ts";
import { adoptContainers, adoptNetworks, adoptVolumes, type LostState } from "./adoption.ts";
import { agentOptions } from "../containers/agent/agent-endpoint.ts";
import { AgentLink } from "../containers/live/agent-link.ts";
import { resumeExecs } from "../execs/start-exec.ts";
import { formatAddress, formatCidr } from "../networks/decisions/cidr.ts";
import { choosePool } from "../networks/decisions/address-pools.ts";
import { makeInFreePool, withPool } from "../networks/free-pool.ts";
import { restartsAtBoot } from "../containers/decisions/life/restart-policy.ts";
import { adoptEndpoints } from "../networks/adopt-endpoints.ts";
import { settleNetwork } from "../networks/network-lifecycle.ts";
import { builtinNetworks } from "../networks/decisions/networks.ts";
import { containerExited, restartLater, scheduleRestart } from "../containers/run/container-exit.ts";
import { finishRestart } from "../containers/run/restart-container.ts";
import { discard } from "../containers/create/create-container.ts";
import { exitOfWorkload } from "../containers/run/lost-container.ts";
import { isFrozenByCommit, startedSince } from "../containers/decisions/life/transitions.ts";
import { thawAfterCommit } from "../containers/run/pause-container.ts";
import { resumeRemoval } from "../containers/remove/remove-container.ts";
import { releaseRun } from "../containers/run/release-run.ts";
import { recordBegun } from "../containers/start/record-start.ts";
import { resumeStart } from "../containers/start/resume-start.ts";
import { startContainer } from "../containers/start/start-container.ts";
import type { LiveContainer } from "../containers/live/live.ts";
import { watchContainer } from "../containers/run/watch-container.ts";
import { reseal } from "../containers/agent/reseal.ts";
import type { StartWork } from "./start-work.ts";
import { keepTrying } from "../work/keep-trying.ts";
import { settleVolume } from "../volumes/volumes.ts";
import {
  hasProcess,
  hostConfigOf,
  isActive,
  isRemoved,
  millisecondsOf,
  stateOf,
  timestampOfNs,
} from "../../model/records.ts";

/** Creates the predefined networks, and those known networks that the machine has lost. */
export async function ensureNetworks(
  context: EngineContext,
  start: StartWork,
  lost: LostState,
): Promise<void> {
  const { state, driver, clock } = context;
  await start.do("look for networks that the state does not know", () => adoptNetworks(context, lost));
  for (const { network } of [...state.networks.values()]) {
    // The failure of one network only affects its own containers.
    const id = network?.id ?? "";
    await start.do(`make network ${network?.name} what it should be`, () =>
      // A user may remove it after the start: a network created then would have no owner.
      context.networkLocks.run(id, async () => {
        const record = state.networks.get(id);
        if (record?.network?.configOnly === true) {
          return; // Unknown to the driver.
        }
        if (record?.phase === Phase.UNSPECIFIED) {
          await driver.networks.ensure(record);
        } else if (record !== undefined) {
          await settleNetwork(context, record);
        }
      }),
    );
  }
  for (const [name, networkDriver] of builtinNetworks) {
    if (state.networks.named(name) !== undefined) {
      continue;
    }
    const planned = create(NetworkRecordSchema, {
      network: create(NetworkSchema, {
        id: newId(),
        name,
        created: timestampOfNs(clock.nowNs()),
        scope: "local",
        driver: networkDriver,
        ipamDriver: "default",
        ...(name === "bridge"
          ? {
              pools: [await bridgePool(context, [])],
              options: { "com.docker.network.bridge.default_bridge": "true" },
            }
          : {}),
      }),
      phase: Phase.CREATING,
    });
    const { record, reference } = await makeInFreePool(driver.networks, planned, async (taken, refused) =>
      withPool(taken, await bridgePool(context, refused)),
    );
    await state.commit((change) =>
      change.networks.put({ ...record, driverReference: reference, phase: Phase.UNSPECIFIED }),
    );
  }
}

/** Reconciles containers. Starts in progress, and whatever takes long, continue in the background. */
export async function recoverContainers(
  context: EngineContext,
  start: StartWork,
  lost: LostState,
): Promise<void> {
  const { state } = context;
  const found = await foundWorkloads(context, start, lost);
  await forgetStale(context, found);
  await start.do("look for volumes that the state does not know", () => adoptVolumes(context, lost));
  await adoptContainers(context, lost, found);
  await recoverEach(context, [...state.containers.values()], found);
  await start.do("release what has addresses that nobody knows", () => releasedRemains(context, found));
  for (const { name, phase } of [...state.volumes.values()]) {
    if (phase !== Phase.UNSPECIFIED) {
      await start.do(`finish what was begun with volume ${name}`, () => settleVolume(context, name));
    }
  }
}

/**
 * Forgets the creation of containers that have been started: a damaged database has lost what followed. What there is of
 * them is then unknown, and kept.
 */
async function forgetStale({ state }: EngineContext, found: readonly FoundWorkload[]): Promise<void> {
  for (const { containerId, generation } of found) {
    const record = state.containers.get(containerId);
    if (record?.phase === Phase.CREATING && generation > 0n) {
      const begun = record.anonymousVolumes.filter(
        (name) => state.volumes.get(name)?.phase === Phase.CREATING,
      );
      await state.commit((change) => {
        change.containers.delete(containerId);
        for (const name of begun) {
          change.volumes.delete(name);
        }
      }, "happened");
    }
  }
}

/**
 * Waits until the agents of ended containers are released, successfully or not: the kernel answers for their addresses,
 * which are no longer recorded, so that another container would get one.
 */
async function releasedRemains(context: EngineContext, found: readonly FoundWorkload[]): Promise<void> {
  const { driver, live, state } = context;
  if (driver.networks.endpointAddresses === "virtual") {
    return;
  }
  const remains = found.filter(({ agent, containerId }) => {
    const record = state.containers.get(containerId);
    return agent !== undefined && record !== undefined && !hasProcess(record);
  });
  await Promise.all(remains.map(({ containerId }) => live.of(containerId).released));
}

/**
 * Existing workloads; if the site does not answer in time, those recorded here. Workloads and agents that answer later
 * are adopted then.
 */
async function foundWorkloads(
  context: EngineContext,
  start: StartWork,
  lost: LostState,
): Promise<readonly FoundWorkload[]> {
  const { site, workloads } = context.driver;
  if (site.kind === "at-hand") {
    return await workloads.list();
  }
  let found: readonly FoundWorkload[] | undefined;
  let isLate = false;
  await start.do("ask which containers there are", async () => {
    const listed = await workloads.list();
    if (isLate) {
      await recoverLate(context, lost, listed);
    } else {
      found = listed;
    }
    refuseUnanswered(context, listed);
  });
  isLate = true;
  return found ?? site.known();
}

/** @throws unavailable: there are unknown containers whose agents may describe them when queried again */
function refuseUnanswered({ state }: EngineContext, listed: readonly FoundWorkload[]): void {
  const missing = listed.filter(
    ({ unanswered, containerId }) => unanswered === true && !state.containers.has(containerId),
  );
  if (missing.length > 0) {
    const ids = missing.map(({ containerId }) => shortId(containerId)).join(", ");
    throw unavailable(`the agents of containers that the state does not know do not answer: ${ids}`);
  }
}

/**
 * Adopts the containers that the state has lost, once a late answer lists them. Those that the state knows are reported
 * by their agents.
 */
async function recoverLate(
  context: EngineContext,
  lost: LostState,
  listed: readonly FoundWorkload[],
): Promise<void> {
  await adoptNetworks(context, lost);
  await adoptVolumes(context, lost);
  const adopted = await adoptContainers(context, lost, listed);
  await recoverEach(
    context,
    adopted,
    listed.filter(({ containerId }) => lost.mayHaveLost(containerId, undefined)),
  );
}

async function recoverEach(
  context: EngineContext,
  known: readonly ContainerRecord[],
  workloads: readonly FoundWorkload[],
): Promise<void> {
  const found = new Map(workloads.map((workload) => [workload.containerId, workload]));
  const records = await Promise.all(known.map((record) => asFound(context, record, found.get(record.id))));
  for (const record of records) {
    if (hasProcess(record) || record.phase === Phase.STARTING) {
      for (const { networkId, ipAddress } of Object.values(record.endpoints)) {
        context.addresses.hold(networkId, ipAddress);
      }
    }
  }
  reportUnexplained(context, found);
  // In the order of their ends, so that the events have that order.
  const inOrder = [...records].sort((a, b) => endOf(found, a) - endOf(found, b));
  for (const record of inOrder) {
    await recoverContainer(context, record, found.get(record.id));
  }
}

async function recoverContainer(
  context: EngineContext,
  record: ContainerRecord,
  found: FoundWorkload | undefined,
): Promise<void> {
  const live = context.live.of(record.id);
  const run = found?.generation === record.generation ? found : undefined;
  if (record.phase === Phase.STARTING && run?.agent === undefined && run?.begunAt !== undefined) {
    await recordBegun(context, record, run.begunAt);
    await endedMeanwhile(context, live, record.generation, run);
  } else if (record.phase === Phase.CREATING) {
    await discard(context, record);
    context.live.forget(record.id);
  } else if (isRemoved(record)) {
    await resumeRemoval(context, record);
  } else if (record.phase === Phase.STARTING) {
    const mayHaveBegun = run?.agent !== undefined;
    void context.background.run(`take up the start of container ${record.id}`, () =>
      resumeStart(context, record, mayHaveBegun).catch((error: unknown) => startLater(context, live, error)),
    );
  } else if (hasProcess(record)) {
    if (run?.agent !== undefined) {
      const link = new AgentLink(run.agent, record.generation, agentOptions(context, record.id));
      link.greeting = Promise.withResolvers();
      live.run.meet(link);
      if (isFrozenByCommit(record)) {
        thawAfterCommit(context, live);
      }
      watchContainer(context, live, link);
      await resumeExecs(context, link, record);
      adoptEndpoints(context, live);
      void reseal(context, record.id); // An earlier process may have died between a change and its report to the agent.
    } else {
      await endedMeanwhile(context, live, record.generation, run);
    }
  } else {
    recoverStopped(context, record, found);
  }
  finishRestart(context, record);
}

/**
 * The record as that of the last start, if the state is older, as after the restore of a backup. On this machine that holds
 * for ended containers too: a number that has run is refused to their next start.
 */
async function asFound(
  { driver, logger, state }: EngineContext,
  record: ContainerRecord,
  found: FoundWorkload | undefined,
): Promise<ContainerRecord> {
  const isKnown = hasProcess(record)
    ? (found?.agent ?? found?.exit) !== undefined
    : driver.site.kind === "at-hand" && record.generation > 0n;
  if (found === undefined || !isKnown || found.generation <= record.generation) {
    return record;
  }
  logger.warn({ container: record.id }, "a container was started again since the state knew it");
  const next = startedSince(record, found);
  await state.commit((change) => change.containers.put(next), "happened");
  return next;
}

/** Records the end of a run that ended without a backend. @param run undefined if the driver does not know it */
function endedMeanwhile(
  context: EngineContext,
  live: LiveContainer,
  generation: bigint,
  run: FoundWorkload | undefined,
): Promise<void> {
  return containerExited(context, live, generation, exitOfWorkload(context, run), run?.execExits);
}

/** Performs what the end of a container's last run may have left undone: its release, a pending restart, or `--rm`. */
function recoverStopped(
  context: EngineContext,
  record: ContainerRecord,
  found: FoundWorkload | undefined,
): void {
  const live = context.live.of(record.id);
  if (found !== undefined && record.generation > 0n) {
    releaseRun(context, live, {});
  }
  if (isActive(record)) {
    scheduleRestart(context, live);
  } else if (isStartedAtBoot(record)) {
    startAtBoot(context, record.id);
  } else if (found?.laterRuns === true) {
    void context.background.run(`take up the later start of container ${record.id}`, () =>
      startContainer(context, record.id),
    );
  } else if (
    hostConfigOf(record).autoRemove &&
    stateOf(record).status === ContainerStatus.EXITED &&
    record.restartToken === ""
  ) {
    context.followUps.autoRemove(record.id);
  }
}

/** Reschedules a resumed start that could not be performed, if a policy wants it. @throws the error, if none does */
function startLater(context: EngineContext, live: LiveContainer, error: unknown): void {
  const record = context.state.containers.get(live.id);
  const isWanted = record !== undefined && !isActive(record) && isStartedAtBoot(record);
  if (isWanted && isErrorKind(error, "unavailable")) {
    startAtBoot(context, live.id);
  } else {
    restartLater(context, live, error);
  }
}

/**
 * Starts it in the background, repeatedly while something that it needs is unavailable, unless somebody else has
 * started or removed it.
 */
function startAtBoot(context: EngineContext, id: string): void {
  const what = `start container ${id} by its policy`;
  const start = async (): Promise<void> => {
    const record = context.state.containers.get(id);
    if (record !== undefined && !hasProcess(record) && isStartedAtBoot(record)) {
      await startContainer(context, id);
    }
  };
  const mayPass = (error: unknown): boolean => isErrorKind(error, "unavailable");
  void context.background.run(what, () => keepTrying(context, what, start, mayPass));
}

/** Docker's rule, for containers that were started before. */
function isStartedAtBoot(record: ContainerRecord): boolean {
  const { startedAt, exitCode } = stateOf(record);
  return (
    startedAt !== undefined &&
    restartsAtBoot(hostConfigOf(record).restartPolicy, {
      code: exitCode,
      signalledByUser: record.stoppedByUser,
      restartCount: record.restartCount,
    })
  );
}

function reportUnexplained(context: EngineContext, found: ReadonlyMap<string, FoundWorkload>): void {
  for (const workload of found.values()) {
    if (context.state.containers.has(workload.containerId) || workload.unanswered === true) {
      continue;
    }
    const about = { container: workload.containerId };
    if (workload.agent !== undefined) {
      context.logger.warn(about, "a container runs that the state does not know; it is left alone");
      for (const address of workload.addresses ?? []) {
        context.addresses.holdUnknown(context.state.networks.values(), address);
      }
      continue;
    }
    const isKept = context.driver.site.kind === "at-hand" || context.state.losses.length > 0;
    if (isKept && workload.unfinished !== true) {
      context.unclaimed.add(workload.containerId);
      context.logger.warn(
        about,
        "files of a container that the state does not know are kept, until containers are pruned",
      );
      continue;
    }
    context.logger.warn(about, "files of a container that the state does not know are cleared away");
    void context.background.run(`clear away container ${workload.containerId}`, () =>
      context.driver.workloads.remove(workload.containerId),
    );
  }
}

async function bridgePool(context: EngineContext, refused: readonly string[]): Promise<IpamPool> {
  let routes: readonly string[] = [];
  try {
    routes = await context.driver.networks.usedRoutes();
  } catch (error) {
    context.logger.warn({ err: error }, `cannot read the machine's routes: ${messageOf(error)}`);
  }
  const pool = choosePool([...routes, ...refused], context.driver.networks.addressPools);
  return create(IpamPoolSchema, { subnet: formatCidr(pool), gateway: formatAddress(pool.base + 1) });
}

function endOf(found: ReadonlyMap<string, FoundWorkload>, record: ContainerRecord): number {
  return found.get(record.id)?.exit?.finishedAt.getTime() ?? millisecondsOf(stateOf(record).startedAt);
}
