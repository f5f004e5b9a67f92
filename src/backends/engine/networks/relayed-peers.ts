/** Containers that reach each other only by agents and a relay. */
import { create } from "@bufbuild/protobuf";
import type { CallOptions } from "@connectrpc/connect";

import { ownValue } from "../../../common/own-value.ts";
import {
  type OwnPort,
  OwnPortSchema,
  type Peer,
  PeerSchema,
  TransportProtocol,
} from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { KeyedAgent } from "../../driver/agents.ts";
import { isInterconnected } from "../../model/bridge-options.ts";
import { peerAddressOf } from "../../model/endpoints.ts";
import { parseContainerPort } from "../../model/ports.ts";
import { hostConfigOf } from "../../model/records.ts";
import type { EngineContext } from "../context.ts";
import type { AgentLink } from "../containers/live/agent-link.ts";
import { namedNetworks, peersOn } from "./decisions/names.ts";
import { networkOwnerOf, sharersOf } from "./decisions/shared-network.ts";

const bridge = "bridge";

/**
 * Has the relay, if there is one, connect a container's agent with those of its current peers and network partners, and
 * no others.
 */
export function allowAgents(context: EngineContext, containerId: string): void {
  const { traffic, agentReach } = context.driver;
  if (agentReach.kind !== "relayed") {
    return;
  }
  const record = context.state.containers.get(containerId);
  const pin = keyedAgentOf(context, containerId)?.pin;
  const met = new Set<string>();
  if (record !== undefined && pin !== undefined) {
    const sharers = sharersOf(context, record).filter((id) => id !== containerId);
    const reached = traffic.kind === "relayed" ? reachedBy(context, record).keys() : [];
    for (const id of [...sharers, ...reached]) {
      met.add(id);
    }
  }
  const others = [...met].map((id) => keyedAgentOf(context, id)).filter((agent) => agent !== undefined);
  agentReach.allow(containerId, pin, others);
}

/**
 * Those containers, in the form for its agent.
 *
 * @param limits of the call for the agent's key
 * @throws as that call
 */
export async function relayedPeers(
  context: EngineContext,
  record: ContainerRecord,
  link: AgentLink,
  limits: CallOptions,
): Promise<Peer[]> {
  if (context.driver.traffic.kind !== "relayed") {
    return [];
  }
  const reached = [...reachedBy(context, record)].flatMap(([id, addresses]) => {
    const agent = keyedAgentOf(context, id);
    return agent === undefined ? [] : [{ ...agent, addresses: [...addresses] }];
  });
  if (reached.length === 0) {
    return [];
  }
  const partnerKey = await link.partnerKey(limits);
  const given = await link.peerCertificates.complete(
    reached.map(({ containerId }) => containerId),
    context.clock.nowMs(),
    (id) => context.driver.authority.certifyPeer(id, partnerKey),
    link.ended.signal,
  );
  return reached.map((peer) =>
    create(PeerSchema, { ...peer, certificates: [...(given.get(peer.containerId)?.chain ?? [])] }),
  );
}

/** Ports that a container's processes are expected to listen on: the published ones. */
export function ownPortsOf({ driver }: EngineContext, record: ContainerRecord): OwnPort[] {
  if (driver.traffic.kind !== "relayed") {
    return [];
  }
  return hostConfigOf(record).portBindings.flatMap(({ containerPort }) => {
    const { port, protocol } = parseContainerPort(containerPort);
    const carried = carriedProtocols.get(protocol);
    return carried === undefined ? [] : [create(OwnPortSchema, { port, protocol: carried })];
  });
}

const carriedProtocols: ReadonlyMap<string, TransportProtocol> = new Map([
  ["tcp", TransportProtocol.TCP],
  ["udp", TransportProtocol.UDP],
]);

/** The addresses of a container's peers on its networks and linked containers, by ID. */
function reachedBy(
  context: EngineContext,
  record: ContainerRecord,
): ReadonlyMap<string, ReadonlySet<string>> {
  const { state, driver } = context;
  const reached = new Map<string, Set<string>>();
  const owner = networkOwnerOf(context, record);
  const reach = (other: ContainerRecord, network: string): void => {
    const address = peerAddressOf(ownValue(other.endpoints, network), driver);
    if (other.id === owner.id || address === "") {
      return;
    }
    const sharers = sharersOf(context, other);
    for (const id of sharers.length > 0 ? sharers : [other.id]) {
      reached.set(id, (reached.get(id) ?? new Set()).add(address));
    }
  };
  for (const name of namedNetworks(owner.endpoints)) {
    if (joinsContainers(context, ownValue(owner.endpoints, name)?.networkId ?? "")) {
      for (const other of peersOn(state, [name])) {
        reach(other, name);
      }
    }
  }
  for (const { containerId } of ownValue(owner.endpoints, bridge) === undefined ? [] : owner.links) {
    const other = state.containers.get(containerId);
    if (other !== undefined) {
      reach(other, bridge);
    }
  }
  return reached;
}

/** Whether containers of a network may reach each other (`enable_icc`). */
function joinsContainers({ state }: EngineContext, networkId: string): boolean {
  return isInterconnected(state.networks.get(networkId)?.network?.options ?? {});
}

/** The agent of a container's current run, if it is a callback agent. */
function keyedAgentOf(context: EngineContext, containerId: string): KeyedAgent | undefined {
  const link = context.live.peek(containerId)?.link;
  return link?.address.kind === "called" && !link.ended.signal.aborted
    ? { containerId, pin: link.address.pin }
    : undefined;
}
