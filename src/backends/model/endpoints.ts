/** Reads a container's endpoints and the addresses at which it is reached. Pure. */
import { create } from "@bufbuild/protobuf";

import { ownValue } from "../../common/own-value.ts";
import { EndpointConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { type NetworkEndpoint, NetworkEndpointSchema } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { Network } from "../../gen/sockerless/backend/v1/network_pb.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { Driver } from "../driver/driver.ts";
import { isContainerMode } from "./container-mode.ts";
import { configOf, hostConfigOf } from "./records.ts";

/** A container's endpoints by network name. */
export type Endpoints = Readonly<Record<string, NetworkEndpoint>>;

/** The endpoints of a container that is no longer running. */
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

/** Whether a container has an endpoint on this network, and not on one that had its name before. */
export function hasEndpointOn({ endpoints }: ContainerRecord, { id, name }: Network): boolean {
  return ownValue(endpoints, name)?.networkId === id;
}

/** Adds to the endpoints the address at which the container is actually reached. */
export function placedEndpoints(endpoints: Endpoints, address: string): Record<string, NetworkEndpoint> {
  return Object.fromEntries(
    Object.entries(endpoints).map(([name, endpoint]) => [name, placedEndpoint(endpoint, address)]),
  );
}

/**
 * The platform provides the interface, so a requested MAC address has no effect. On `host`, whose endpoint has no
 * address, there is no MAC address either.
 */
export function placedEndpoint(endpoint: NetworkEndpoint, address: string): NetworkEndpoint {
  const hasOwn = address !== "" && endpoint.ipAddress !== "";
  const macAddress = hasOwn ? macOfAddress(endpoint.ipAddress) : endpoint.macAddress;
  return create(NetworkEndpointSchema, { ...endpoint, macAddress, reachableAddress: address });
}

/** Whether a container has its own network namespace without any network. */
export function isWithoutNetwork(record: ContainerRecord): boolean {
  const { networkMode } = hostConfigOf(record);
  const isAnothers = networkMode === "host" || isContainerMode(networkMode);
  return !isAnothers && (networkMode === "none" || configOf(record).networkDisabled);
}

/** Whether a container's own network namespace has no network: by configuration, or because it has left all of them. */
export function isOnNoNetwork(record: ContainerRecord): boolean {
  const isOwn = !isContainerMode(hostConfigOf(record).networkMode);
  return isWithoutNetwork(record) || (isOwn && Object.keys(record.endpoints).length === 0);
}

/**
 * A locally administered MAC address derived from an IPv4 address, the same as dockerd before 28 makes. It must not be
 * random: neighbours, the machine above all, keep sending to the MAC of an address's previous holder for many seconds,
 * and the announcement that should correct this is lost if the interface is up before its bridge port forwards.
 */
export function macOfAddress(address: string): string {
  const bytes = [0x02, 0x42, ...address.split(".").map(Number)];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** The parts of a driver that determine how peers reach a container. */
export interface Reach {
  readonly networks: Pick<Driver["networks"], "endpointAddresses">;
  readonly traffic: Pick<Driver["traffic"], "kind">;
}

/** The address at which peers reach a container by one of its endpoints; empty if they cannot. */
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
 * The loopback address by which peers reach an endpoint: 127.18.0.3 for 172.18.0.3. Addresses that differ only in the
 * first byte share one.
 */
export function loopbackOf(ipAddress: string): string {
  const [, second = "0", ...rest] = ipAddress.split(".");
  // Avoids 127.0.0.1 and 127.0.0.11, the resolver's address.
  return ["127", second === "0" ? "240" : second, ...rest].join(".");
}
