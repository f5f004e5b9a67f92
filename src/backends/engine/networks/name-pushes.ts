/** Telling the agents of containers the names of their peers. */
import { Code, ConnectError } from "@connectrpc/connect";

import { messageOf } from "../../../common/errors.ts";
import { every } from "../../../common/timers.ts";
import { type ContainerRecord, Phase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { linkedFrom } from "../containers/decisions/links/links.ts";
import type { AgentLink } from "../containers/live/agent-link.ts";
import type { Endpoints } from "../../model/endpoints.ts";
import { namedNetworks, namesFor, peersOn } from "./decisions/names.ts";
import { networkOwnerOf, sharersOf } from "./decisions/shared-network.ts";
import { allowAgents, ownPortsOf, relayedPeers } from "./relayed-peers.ts";

/** A peer's agent that does not take its names in this time is told them again, and nobody waits for it. */
const pushTimeoutMs = 2_000;
/**
 * Limit of the second attempt, and of the push to a starting container, whose start fails where names do not
 * arrive.
 */
const patientTimeoutMs = 20_000;
/** Certificates of peers are good for an hour; the authority makes new ones after half of it. */
const renewalMs = 10 * 60_000;

/**
 * Tells a container that starts, its peers, and those that are linked to it, each other's names: when the promise
 * resolves they all know. One of the others that cannot be told now is told behind the answer.
 *
 * @throws what the container's own agent answers
 */
export async function introduce(context: EngineContext, record: ContainerRecord): Promise<void> {
  const networks = namedNetworks(record.endpoints);
  const { endpoints, links } = networkOwnerOf(context, record);
  const asks = namedNetworks(endpoints).length > 0 || links.length > 0;
  await Promise.all([
    asks ? push(context, record.id) : undefined,
    tellPeers(context, networks, record.id),
    tellLinked(context, record.id),
  ]);
}

/** Tells the containers that are linked to one where it is now. */
export async function tellLinked(context: EngineContext, containerId: string): Promise<void> {
  await tellEach(context, linkedFrom(context.state, containerId));
}

/** Tells everybody on the container's networks how it is now: gone, renamed. Behind the return. */
export function announceChange(context: EngineContext, containerId: string, endpoints: Endpoints): void {
  const networks = namedNetworks(endpoints);
  allowAgents(context, containerId);
  if (networks.length > 0) {
    void context.background.run(`tell the peers of container ${containerId}`, () =>
      tellPeers(context, networks),
    );
  }
}

/** Tells the containers on some networks their names, as {@link introduce} does with peers. */
export async function tellPeers(
  context: EngineContext,
  networks: readonly string[],
  except?: string,
): Promise<void> {
  const peers = peersOn(context.state, networks).map(({ id }) => id);
  await tellEach(
    context,
    peers.filter((id) => id !== except),
  );
}

/**
 * Tells all containers their peers now, and again before their certificates end, until the engine does: where they reach
 * one another by their agents alone.
 */
export function keepPeers(context: EngineContext): void {
  if (context.driver.traffic.kind !== "relayed") {
    return;
  }
  const tellAll = (): void =>
    void context.background.run("tell containers their peers", () =>
      tellEach(
        context,
        [...context.state.containers.values()].map(({ id }) => id),
      ),
    );
  tellAll();
  every(context.clock, renewalMs, tellAll, context.shutdown);
}

async function tellEach(context: EngineContext, containerIds: readonly string[]): Promise<void> {
  await Promise.all(
    containerIds.map((id) => push(context, id).catch((error: unknown) => tellAgain(context, id, error))),
  );
}

/**
 * Tells a container its peers again, once, behind the answer; if that fails it is told at the next change.
 */
function tellAgain(context: EngineContext, containerId: string, error: unknown): void {
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
 * Tells one container, and those that have its network, its names as they are when the agents are called. One of the
 * others that cannot be told now is told later.
 */
export async function push(context: EngineContext, containerId: string): Promise<void> {
  const record = context.state.containers.get(containerId);
  const isOwner = record !== undefined && networkOwnerOf(context, record) === record;
  const sharers = isOwner ? sharersOf(context, record).filter(({ id }) => id !== containerId) : [];
  await Promise.all([
    pushTo(context, containerId),
    ...sharers.map(({ id }) => pushTo(context, id).catch((error: unknown) => tellAgain(context, id, error))),
  ]);
}

/** Calls to one agent go one after the other, so that the last told is the latest; those that wait share the next. */
async function pushTo(context: EngineContext, containerId: string): Promise<void> {
  const link = context.live.peek(containerId)?.link;
  allowAgents(context, containerId); // At once, whatever its agent does.
  await link?.names.run(() => tell(context, containerId, link)); // Without one it is told when its agent is there.
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
    const peers = await relayedPeers(context, record, link.agent, limits);
    const told = { ...namesFor(context, owner), peers, ownPorts: ownPortsOf(context, owner) };
    await link.agent.client.names(told, limits);
  } catch (error) {
    if (link.ended.signal.aborted) {
      return; // It has ended meanwhile.
    }
    if (error instanceof ConnectError && refusals.has(error.code)) {
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

/** Codes of agents that cannot answer names where they run, or are of a version that does not. */
const refusals: ReadonlySet<Code> = new Set([Code.FailedPrecondition, Code.Unimplemented]);
