/** Networks below the engine's IPAM: what containers reach, and who reaches their ports. */
import type { NetworkEndpoint } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord, NetworkRecord } from "../../gen/sockerless/state/v1/state_pb.ts";

/** A running container that joins or leaves one network. */
export interface NetworkChange {
  /** With its endpoints before the change, and after it. */
  readonly before: ContainerRecord;
  readonly after: ContainerRecord;
  readonly network: NetworkRecord;
  /** The endpoint that comes or goes. */
  readonly endpoint: NetworkEndpoint;
  /** The container's gateway after the change; empty: none. */
  readonly defaultGateway: string;
}

/** Addresses for networks that ask for no subnet: slices of `/size` out of `base`. */
export interface AddressPool {
  /** CIDR. */
  readonly base: string;
  /** Length of the prefix of one network. */
  readonly size: number;
}

/** Networks below the engine's IPAM. */
export interface NetworkFabric {
  /**
   * Pools for networks that ask for no subnet, in the order in which they are used; the first slice of all is
   * the default bridge's. Absent: Docker's own.
   */
  readonly addressPools?: readonly AddressPool[];
  /**
   * Treatment of settings that only bridges and interfaces of a machine can have (IPv6, link-local addresses,
   * options of Docker's bridge driver beside `enable_icc`, which each driver reads). `apply`: applied, or
   * refused where that is not built; `ignore`: accepted and not applied.
   */
  readonly bridgeSettings: "apply" | "ignore";
  /**
   * The addresses of endpoints: `real`, where peers reach a container, or `virtual`: peers are told
   * `Launched.address`, and nothing of a container that has none.
   */
  readonly endpointAddresses: "real" | "virtual";
  /** The refusal to remove a network that has containers, where it is not Docker's. */
  readonly inUseMessage?: string;
  /** Joins a running container to a network. */
  connect(change: NetworkChange): Promise<void>;
  /** Takes a running container off a network. */
  disconnect(change: NetworkChange): Promise<void>;
  /** Tells whoever knows a running container's name, beside agents, that it has another one. */
  renamed(after: ContainerRecord): void;
  /**
   * Answers the driver's reference (bridge name, security group). A network in the phase `creating` whose pool nobody
   * asked for needs one that nothing else has: conflict, and the engine chooses another.
   */
  ensure(record: NetworkRecord): Promise<string>;
  remove(record: NetworkRecord): Promise<void>;
  /** Networks of this instance that exist, for a state that lost them. */
  found(): Promise<readonly NetworkRecord[]>;
  /** Destinations in CIDR form that address pools must not overlap. */
  usedRoutes(): Promise<readonly string[]>;
}

/** How containers share a network (`--network container:X`). */
export type NetworkSharing =
  /** The driver has them share the namespace. */
  | { readonly kind: "namespace" }
  /**
   * They have an interface each: their agents make one of them (`AgentService.Partners`), and names are told to each.
   */
  | { readonly kind: "agents" };

/** How bytes get from one container to another. */
export type ContainerTraffic =
  /** Containers reach one another at the addresses that they are told. */
  | { readonly kind: "direct" }
  /** They do not: each is told addresses of its own loopback (`NamesRequest.peers`), and its agent reaches the others'. */
  | { readonly kind: "relayed" };

/** Published ports: the driver listens where the container runs, or a frontend does, and then says what it bound. */
export interface PublishedPorts {
  readonly listener: "driver" | "frontend";
}
