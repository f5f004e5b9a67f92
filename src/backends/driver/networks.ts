/** Networks below the engine's IPAM: connections between containers, and to their published ports. */
import type { NetworkEndpoint } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord, NetworkRecord } from "../../gen/sockerless/state/v1/state_pb.ts";

/** A running container that joins or leaves a network. */
export interface NetworkChange {
  /** The container's record with its endpoints before and after the change. */
  readonly before: ContainerRecord;
  readonly after: ContainerRecord;
  readonly network: NetworkRecord;
  /** The endpoint that is added or removed. */
  readonly endpoint: NetworkEndpoint;
  /** The container's gateway after the change; empty for none. */
  readonly defaultGateway: string;
}

/** Addresses for networks created without a subnet: slices of prefix length `size` from `base`. */
export interface AddressPool {
  /** CIDR. */
  readonly base: string;
  /** Prefix length of one network. */
  readonly size: number;
}

/** Networks below the engine's IPAM. */
export interface NetworkFabric {
  /**
   * Pools for networks created without a subnet, in order of use; the very first slice is the default bridge's. Absent
   * for Docker's own pools.
   */
  readonly addressPools?: readonly AddressPool[];
  /**
   * How settings are treated that only a machine's bridges and interfaces can have (IPv6, link-local addresses, options
   * of Docker's bridge driver other than `enable_icc`, which every driver handles). `apply`: applied, or refused if not
   * implemented; `ignore`: accepted without effect.
   */
  readonly bridgeSettings: "apply" | "ignore";
  /**
   * The meaning of endpoints' addresses: `real`, where peers reach a container, or `virtual`: peers receive
   * `Launched.address`, or nothing about a container without one.
   */
  readonly endpointAddresses: "real" | "virtual";
  /** The error for removing a network with containers, if it differs from Docker's. */
  readonly inUseMessage?: string;
  /** Connects a running container to a network. */
  connect(change: NetworkChange): Promise<void>;
  /** Disconnects a running container from a network. */
  disconnect(change: NetworkChange): Promise<void>;
  /** Publishes a running container's new name to everything that knows it, except agents. */
  renamed(after: ContainerRecord): void;
  /**
   * Returns the driver's reference (bridge name, security group). A network in phase `creating` with an automatic pool
   * needs a pool not used by anything else: otherwise it throws conflict, and the engine chooses another.
   */
  ensure(record: NetworkRecord): Promise<string>;
  remove(record: NetworkRecord): Promise<void>;
  /** Existing networks of this instance, for a state that lost them. */
  found(): Promise<readonly NetworkRecord[]>;
  /** Destinations in CIDR form that address pools must not overlap. */
  usedRoutes(): Promise<readonly string[]>;
}

/** How containers share a network (`--network container:X`). */
export type NetworkSharing =
  /** In one network namespace, set up by the driver. */
  | { readonly kind: "namespace" }
  /**
   * With an interface each: their agents present them as one network (`AgentService.Partners`), and each gets the
   * names.
   */
  | { readonly kind: "agents" };

/** How traffic gets from one container to another. */
export type ContainerTraffic =
  /** Containers reach one another at their published addresses. */
  | { readonly kind: "direct" }
  /** Each gets addresses of its own loopback (`NamesRequest.peers`), and its agent connects to the others' agents. */
  | { readonly kind: "relayed" };

/**
 * The listener for published ports: the driver, where the container runs, or a frontend, which then reports the
 * bindings.
 */
export interface PublishedPorts {
  readonly listener: "driver" | "frontend";
}
