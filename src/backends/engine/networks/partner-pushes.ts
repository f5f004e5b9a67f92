/** Tells the agents of containers that share a network of each other: each mirrors the others' listeners. */
import { create } from "@bufbuild/protobuf";

import type { AgentAddress } from "../../../agent-client/address.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import { every } from "../../../common/timers.ts";
import { type Partner, PartnerSchema } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { isUp } from "../../model/records.ts";
import type { EngineContext } from "../context.ts";
import type { AgentLink } from "../containers/live/agent-link.ts";
import { isJoined, networkOwnerOf, sharersOf } from "./decisions/shared-network.ts";
import { allowAgents } from "./relayed-peers.ts";

/** Time for which a container's start waits for the others on its network. */
const startWaitMs = 10_000;
/** Additional time for an agent's answer. */
const callLimitMs = 5_000;
/** Delay of a retry for an agent that did not answer. */
const retryMs = 5_000;
/** Certificates of partners are valid for an hour; the authority renews them after half of it. */
const renewalMs = 10 * 60_000;

/**
 * Makes a starting container and those that share its network each other's partners. When the promise resolves, its
 * agent listens on the others' ports. Failures of others are only logged.
 *
 * @throws system: its agent does not reach the network's owner; the agent's errors
 */
export async function joinPartners(context: EngineContext, record: ContainerRecord): Promise<void> {
  const sharers = sharersOf(context, record);
  if (sharers.length < 2) {
    return;
  }
  for (const id of sharers) {
    if (id !== record.id) {
      pushInBackground(context, id);
    }
  }
  allowAgents(context, record.id);
  const owner = networkOwnerOf(context, record);
  const way = context.live.peek(owner.id)?.link?.address;
  const failure = isReached(owner, way)
    ? (await push(context, record.id, startWaitMs)).get(owner.id)
    : "containers do not reach its agent";
  if (failure !== undefined) {
    throw systemError(
      `failed to set up container networking: cannot share the network of container ${owner.name}: ${failure} (do its networks let their members reach one another?)`,
    );
  }
}

/** Sends the remaining partners to all containers of a network, in the background. */
export function announceSharers(context: EngineContext, record: ContainerRecord): void {
  allowAgents(context, record.id);
  for (const id of sharersOf(context, record)) {
    if (id !== record.id) {
      pushInBackground(context, id);
    }
  }
}

/** Sends partners to all containers now, and again before certificates expire, until the engine ends. */
export function keepPartners(context: EngineContext): void {
  if (context.driver.sharing.kind !== "agents") {
    return;
  }
  const pushAll = (): void => {
    const joined = [...context.state.containers.values()].filter((record) => isJoined(context, record));
    const sharers = new Set(joined.flatMap((record) => [record, networkOwnerOf(context, record)]));
    for (const { id } of [...sharers].filter(isUp)) {
      pushInBackground(context, id);
    }
  };
  pushAll();
  every(context.clock, renewalMs, pushAll, context.shutdown);
}

/** Agents with a call in the background; outdated ones are called again. */
const pendingPushes = new WeakMap<AgentLink, { isOutdated: boolean }>();

/**
 * Sends a container its partners, retrying until its agent has answered, or its run or the engine ends. The agent
 * itself keeps trying unreachable partners, without reporting them here.
 */
function pushInBackground(context: EngineContext, containerId: string): void {
  allowAgents(context, containerId); // First, whatever its agent answers.
  const link = context.live.peek(containerId)?.link;
  if (link === undefined) {
    return; // It gets its partners once its agent is there.
  }
  const known = pendingPushes.get(link);
  if (known !== undefined) {
    known.isOutdated = true;
    return;
  }
  const told = { isOutdated: true };
  pendingPushes.set(link, told);
  const signal = AbortSignal.any([link.ended.signal, context.shutdown]);
  void context.background.run(`tell container ${containerId} who shares its network`, async () => {
    while (told.isOutdated && !signal.aborted) {
      told.isOutdated = false;
      try {
        await push(context, containerId, 0);
      } catch (error) {
        context.logger.warn(
          { err: error, container: containerId },
          `a container does not know who shares its network: ${messageOf(error)}`,
        );
        told.isOutdated = true;
        await context.clock.sleep(retryMs, signal).catch(() => undefined);
      }
    }
    pendingPushes.delete(link);
  });
}

/**
 * Sends a container its current partners; calls to one agent are sequential, so that the last one is the latest.
 *
 * @returns why some of them are unreachable
 */
async function push(
  context: EngineContext,
  containerId: string,
  waitMs: number,
): Promise<ReadonlyMap<string, string>> {
  const link = context.live.peek(containerId)?.link;
  return (await link?.partners.run(() => tell(context, containerId, link, waitMs))) ?? new Map();
}

async function tell(
  context: EngineContext,
  containerId: string,
  link: AgentLink,
  waitMs: number,
): Promise<ReadonlyMap<string, string>> {
  const record = context.state.containers.get(containerId);
  const { client } = link.agent;
  const { signal } = link.ended;
  if (record === undefined || signal.aborted) {
    return new Map();
  }
  try {
    const partnerKey = await link.partnerKey({ timeoutMs: callLimitMs, signal });
    const partners = await partnersOf(context, record, link, partnerKey);
    const { failures } = await client.partners(
      { partners, waitMs },
      { timeoutMs: waitMs + callLimitMs, signal },
    );
    return new Map(failures.map((failure) => [failure.containerId, failure.message]));
  } catch (error) {
    if (signal.aborted) {
      return new Map(); // It has ended meanwhile.
    }
    throw error;
  }
}

/** The others that share its network, with the addresses for its agent. */
async function partnersOf(
  context: EngineContext,
  record: ContainerRecord,
  link: AgentLink,
  publicKey: Uint8Array,
): Promise<Partner[]> {
  const others = new Map<string, Exclude<AgentAddress, { kind: "unix" }>>();
  for (const id of sharersOf(context, record)) {
    const address = context.live.peek(id)?.link?.address;
    if (id !== record.id && address !== undefined && address.kind !== "unix") {
      others.set(id, address);
    }
  }
  const given = await link.partnerCertificates.complete(
    others.keys(),
    context.clock.nowMs(),
    (id) => context.driver.authority.certifyPartner(id, publicKey),
    link.ended.signal,
  );
  return [...others].map(([containerId, address]) => {
    const dialled = address.kind === "tcp" ? { host: address.host, port: address.port } : {};
    const certificates = [...(given.get(containerId)?.chain ?? [])];
    return create(PartnerSchema, { containerId, ...dialled, pin: address.pin, certificates });
  });
}

/** Whether agents of other containers can reach a container's agent. */
function isReached({ reachableAddress }: ContainerRecord, way: AgentAddress | undefined): boolean {
  return way?.kind !== "unix" || reachableAddress !== "";
}
