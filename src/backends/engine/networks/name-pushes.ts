/** Sends the names of peers to containers' agents. */
import { setImmediate as nextTurn } from "node:timers/promises";

import { Code, ConnectError } from "@connectrpc/connect";

import { messageOf } from "../../../common/errors.ts";
import { pauseAfter } from "../../../common/pauses.ts";
import { every } from "../../../common/timers.ts";
import { type ContainerRecord, Phase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { linkedFrom } from "../containers/decisions/links/links.ts";
import type { AgentLink } from "../containers/live/agent-link.ts";
import type { LiveContainer } from "../containers/live/live.ts";
import type { Endpoints } from "../../model/endpoints.ts";
import { namedNetworks, namesFor, peersOn } from "./decisions/names.ts";
import { networkOwnerOf, sharersOf } from "./decisions/shared-network.ts";
import { allowAgents, ownPortsOf, relayedPeers } from "./relayed-peers.ts";

/** Time limit of the first attempt; after that names are resent in the background. */
const pushTimeoutMs = 2_000;
/** Time after which an agent has taken names late, whether it has or not. */
const lateAfterMs = 500;
/** For how long others do not wait for it then: a hostile agent is late as often as it is waited for. */
const latePauses = { firstMs: 20_000, longestMs: 3_600_000 };
/** Time limit of the second attempt, and of the push to a starting container, whose start fails without names. */
const patientTimeoutMs = 20_000;
/** Certificates of peers are valid for an hour, and are renewed after half of it. */
const renewalMs = 10 * 60_000;

/**
 * Sends names among a starting container, its peers and the containers linked to it, and waits until all have them.
 * Others that do not take them within two seconds, or were late recently, get them in the background.
 *
 * @throws the errors of the container's own agent
 */
export async function introduce(context: EngineContext, record: ContainerRecord): Promise<void> {
  const networks = namedNetworks(record.endpoints);
  const { endpoints, links } = networkOwnerOf(context, record);
  const asks = namedNetworks(endpoints).length > 0 || links.length > 0;
  await Promise.all([
    asks ? push(context, record.id) : undefined,
    pushToNetworks(context, networks, record.id),
    pushAddressToLinked(context, record.id),
  ]);
}

/** Sends a container's current address to the containers linked to it. */
export async function pushAddressToLinked(context: EngineContext, containerId: string): Promise<void> {
  await pushEach(context, linkedFrom(context.state, containerId));
}

/** Sends a container's change, such as its removal or renaming, to all peers in the background. */
export function announceChange(context: EngineContext, containerId: string, endpoints: Endpoints): void {
  const networks = namedNetworks(endpoints);
  allowAgents(context, containerId);
  if (networks.length > 0) {
    void context.background.run(`tell the peers of container ${containerId}`, () =>
      pushToNetworks(context, networks),
    );
  }
}

/** Sends names to the containers on some networks, as {@link introduce} does. */
export async function pushToNetworks(
  context: EngineContext,
  networks: readonly string[],
  except?: string,
): Promise<void> {
  const peers = peersOn(context.state, networks).map(({ id }) => id);
  await pushEach(
    context,
    peers.filter((id) => id !== except),
  );
}

/**
 * Sends all containers their peers now, and again before certificates expire, until the engine ends; for drivers whose
 * containers reach each other only by agents.
 */
export function keepPeers(context: EngineContext): void {
  if (context.driver.traffic.kind !== "relayed") {
    return;
  }
  let isGoingOn = false;
  const renewAndPush = async (): Promise<void> => {
    isGoingOn = true;
    try {
      for (const { id } of [...context.state.containers.values()]) {
        const link = context.live.peek(id)?.link;
        await link?.peerCertificates.renew(
          context.clock,
          AbortSignal.any([link.ended.signal, context.shutdown]),
        );
        void context.background.run(`tell container ${id} its peers`, () => pushEach(context, [id]));
        await nextTurn();
      }
    } finally {
      isGoingOn = false;
    }
  };
  const pushAll = (): void => {
    if (!isGoingOn) {
      void context.background.run("renew certificates of peers", renewAndPush);
    }
  };
  pushAll();
  every(context.clock, renewalMs, pushAll, context.shutdown);
}

async function pushEach(context: EngineContext, containerIds: readonly string[]): Promise<void> {
  const over = new AbortController();
  const limit = context.clock.sleep(pushTimeoutMs, over.signal).catch(() => {});
  const pushes: Promise<void>[] = [];
  for (const id of containerIds) {
    const live = context.live.peek(id);
    const pushed = push(context, id).catch((error: unknown) => pushAgain(context, id, error));
    if (live?.link?.namesAreLate === false && live.lateNames.untilMs <= context.clock.nowMs()) {
      pushes.push(inTime(context, live, pushed));
    }
    await nextTurn(); // A table of many names takes milliseconds: other calls go on between two of them.
  }
  await Promise.race([Promise.all(pushes), limit]);
  over.abort();
}

/** Waits for a push, and notes whether it was late. */
async function inTime(
  { clock }: EngineContext,
  { lateNames }: LiveContainer,
  pushed: Promise<void>,
): Promise<void> {
  const begunMs = clock.nowMs();
  await pushed;
  const nowMs = clock.nowMs();
  if (nowMs - begunMs > lateAfterMs && lateNames.untilMs <= nowMs) {
    lateNames.count += 1;
    lateNames.untilMs = nowMs + pauseAfter(lateNames.count, latePauses);
  }
}

/** Resends a container its peers once, in the background; if that fails, at the next change. */
function pushAgain(context: EngineContext, containerId: string, error: unknown): void {
  context.logger.warn(
    { err: error, container: containerId },
    `a container does not know its peers: ${messageOf(error)}`,
  );
  const link = context.live.peek(containerId)?.link;
  if (link === undefined || link.namesAreLate) {
    return;
  }
  link.namesAreLate = true;
  void context.background.run(`tell container ${containerId} its peers`, () =>
    pushTo(context, containerId).finally(() => {
      link.namesAreLate = false;
    }),
  );
}

/**
 * Sends the current names to a container and those that share its network. Of the latter, those that do not take them
 * within two seconds get them in the background.
 *
 * @throws the errors of the container's own agent
 */
export async function push(context: EngineContext, containerId: string): Promise<void> {
  const record = context.state.containers.get(containerId);
  const isOwner = record !== undefined && networkOwnerOf(context, record) === record;
  const sharers = isOwner ? sharersOf(context, record).filter((id) => id !== containerId) : [];
  await Promise.all([pushTo(context, containerId), pushEach(context, sharers)]);
}

/** Calls to one agent are sequential, so that the last one is the latest; waiting ones share the next call. */
async function pushTo(context: EngineContext, containerId: string): Promise<void> {
  const link = context.live.peek(containerId)?.link;
  allowAgents(context, containerId); // First, whatever its agent answers.
  // Without a link it gets the names once its agent is there.
  await link?.names.run(() => tell(context, containerId, link));
}

async function tell(context: EngineContext, containerId: string, link: AgentLink): Promise<void> {
  const record = context.state.containers.get(containerId);
  if (record === undefined || link.ended.signal.aborted) {
    return;
  }
  try {
    const owner = networkOwnerOf(context, record);
    const isPatient = record.phase === Phase.STARTING || link.namesAreLate;
    const limits = { timeoutMs: isPatient ? patientTimeoutMs : pushTimeoutMs, signal: link.ended.signal };
    const peers = await relayedPeers(context, record, link, limits);
    const told = { ...namesFor(context, owner), peers, ownPorts: ownPortsOf(context, owner) };
    await link.agent.client.names(told, limits);
  } catch (error) {
    if (link.ended.signal.aborted) {
      return; // It has ended meanwhile.
    }
    if (error instanceof ConnectError && error.code === Code.FailedPrecondition) {
      if (!link.namesAreRefused) {
        link.namesAreRefused = true;
        context.logger.warn(
          { container: containerId },
          `the names of other containers do not resolve in container ${record.name}: ${messageOf(error)}`,
        );
      }
      return;
    }
    throw error;
  }
}
