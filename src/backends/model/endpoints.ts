/** Reading a container's endpoints: what it has on its networks, and how it is reached. Pure. */
import { create } from "@bufbuild/protobuf";

import { EndpointConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { type NetworkEndpoint, NetworkEndpointSchema } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { Driver } from "../driver/driver.ts";
import { isContainerMode } from "./container-mode.ts";
import { configOf, hostConfigOf } from "./records.ts";

/** A container's endpoints by network name. */
export type Endpoints = Readonly<Record<string, NetworkEndpoint>>;

/** The endpoints of a container that does not run any more. */
export function disconnectedEndpoints(endpoints: Endpoints): Record<string, NetworkEndpoint> {
  return Object.fromEntries(
    Object.entries(endpoints).map(([name, endpoint]) => [
      name,
      create(NetworkEndpointSchema, {
        config: endpoint.config ?? create(EndpointConfigSchema),
        networkId: endpoint.networkId,
        dnsNames: endpoint.dnsNames,
      }),
    ]),
  );
}

/** Endpoints of a container that is really reached at another address than theirs. */
export function placedEndpoints(endpoints: Endpoints, address: string): Record<string, NetworkEndpoint> {
  return Object.fromEntries(
    Object.entries(endpoints).map(([name, endpoint]) => [name, placedEndpoint(endpoint, address)]),
  );
}

/**
 * Its interface is the platform's: a hardware address that was asked for is on none. On `host`, whose endpoint has no
 * address of its own, it has no hardware address either.
 */
export function placedEndpoint(endpoint: NetworkEndpoint, address: string): NetworkEndpoint {
  const hasOwn = address !== "" && endpoint.ipAddress !== "";
  const macAddress = hasOwn ? macOfAddress(endpoint.ipAddress) : endpoint.macAddress;
  return create(NetworkEndpointSchema, { ...endpoint, macAddress, reachableAddress: address });
}

/**
 * Address at which peers reach a container whose endpoints have virtual addresses; empty: theirs are its own,
 * or it does not run. A container that an earlier version has started has it in its endpoints alone.
 */
export function reachableAddressOf({ reachableAddress, endpoints }: ContainerRecord): string {
  const told = Object.values(endpoints).find((endpoint) => endpoint.reachableAddress !== "");
  return reachableAddress || (told?.reachableAddress ?? "");
}

/** Whether a container has a network namespace of its own that is joined to no network. */
export function isWithoutNetwork(record: ContainerRecord): boolean {
  const { networkMode } = hostConfigOf(record);
  const isAnothers = networkMode === "host" || isContainerMode(networkMode);
  return !isAnothers && (networkMode === "none" || configOf(record).networkDisabled);
}

/** Whether a container's network namespace is its own, and joined to no network: it wants none, or has left them all. */
export function isOnNoNetwork(record: ContainerRecord): boolean {
  const isOwn = !isContainerMode(hostConfigOf(record).networkMode);
  return isWithoutNetwork(record) || (isOwn && Object.keys(record.endpoints).length === 0);
}

/**
 * The MAC address of an interface with this IPv4 address, administered locally; dockerd before 28 makes the same one.
 * Not a random one: a neighbour that has talked to the last holder of an address, the machine itself above all, goes on
 * sending to that one's MAC for many seconds. The announcement that should correct it is lost when the interface is up
 * before its bridge port forwards.
 */
export function macOfAddress(address: string): string {
  const bytes = [0x02, 0x42, ...address.split(".").map(Number)];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** The driver's parts by which peers reach a container. */
export interface Reach {
  readonly networks: Pick<Driver["networks"], "endpointAddresses">;
  readonly traffic: Pick<Driver["traffic"], "kind">;
}

/** The address at which peers reach a container by one of its endpoints; empty: they do not. */
export function peerAddressOf(
  endpoint: NetworkEndpoint | undefined,
  { networks: { endpointAddresses }, traffic }: Reach,
): string {
  const own = endpoint?.ipAddress ?? "";
  if (traffic.kind === "relayed") {
    return own === "" ? "" : loopbackOf(own);
  }
  return endpoint?.reachableAddress || (endpointAddresses === "real" ? own : "");
}

/**
 * The address on the loopback of its peers that stands for an endpoint's: 172.18.0.3 is 127.18.0.3. Addresses that differ
 * in their first byte alone share one.
 */
export function loopbackOf(ipAddress: string): string {
  const [, second = "0", ...rest] = ipAddress.split(".");
  // 127.0.0.1 and the resolver's 127.0.0.11 are nobody's.
  return ["127", second === "0" ? "240" : second, ...rest].join(".");
}
