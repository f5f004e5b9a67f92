/** A container's endpoints: what it asks of its networks, and what it has there while it runs. */
import { isIP, isIPv6 } from "node:net";

import { create } from "@bufbuild/protobuf";

import { conflict, forbidden, invalid } from "../../../../common/errors.ts";
import { newId, shortId } from "../../../../common/ids.ts";
import {
  type EndpointConfig,
  EndpointConfigSchema,
  type NetworkingConfig,
} from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  type NetworkEndpoint,
  NetworkEndpointSchema,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { NetworkPlan } from "../../driver.ts";
import type { State } from "../../state/state.ts";
import { containerOfMode, isContainerMode } from "../container-mode.ts";
import { parseLink } from "../links/parse-link.ts";
import { findContainer } from "../lookup.ts";
import { configOf, hasProcess, hostConfigOf, statusName, withFields } from "../records.ts";
import { type AddressBook, macOfAddress } from "./address-book.ts";
import { overlaps, parseAddress, parseCidr } from "./cidr.ts";
import { builtinNetworks, findNetwork } from "./networks.ts";

/** A container's endpoints by network name. */
export type Endpoints = Readonly<Record<string, NetworkEndpoint>>;

const ownSubnetsOnly =
  "user specified IP address is supported only when connecting to networks with user configured subnets";
const macPattern = /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i;

/** Refuses endpoint settings that cannot be. @throws invalid */
export function validateNetworking(networking: NetworkingConfig): void {
  for (const [network, endpoint] of Object.entries(networking.endpoints)) {
    const faults: string[] = [];
    if (isPredefined(network) && (endpoint.ipv4Address !== "" || endpoint.ipv6Address !== "")) {
      faults.push("user specified IP address is supported on user defined networks only");
    }
    if (isPredefined(network) && endpoint.aliases.length > 0) {
      faults.push("network-scoped alias is supported only for containers in user defined networks");
    }
    if (endpoint.ipv6Address !== "" && !isIPv6(endpoint.ipv6Address)) {
      faults.push(`invalid IPv6 address: ${endpoint.ipv6Address}`);
    } else if (endpoint.ipv6Address !== "" && !isPredefined(network)) {
      faults.push(ownSubnetsOnly); // No network has IPv6.
    }
    for (const address of endpoint.linkLocalIps.filter((each) => isIP(each) === 0)) {
      faults.push(`invalid link-local IP address: ${address}`);
    }
    if (endpoint.macAddress !== "" && !macPattern.test(endpoint.macAddress)) {
      throw invalid(`invalid config for network ${network}: invalid MAC address ${endpoint.macAddress}`);
    }
    if (faults.length > 0) {
      throw invalid(
        `invalid config for network ${network}: invalid endpoint settings:\n${faults.join("\n")}`,
      );
    }
  }
}

/**
 * The endpoints of a new container: those asked for, and the one that its network mode means.
 *
 * @throws invalid: an address that its network does not have
 */
export function plannedEndpoints(
  state: State,
  networkMode: string,
  macAddress: string,
  networking: NetworkingConfig | undefined,
): Record<string, NetworkEndpoint> {
  if (isContainerMode(networkMode)) {
    return {};
  }
  const endpoints: Record<string, NetworkEndpoint> = {};
  for (const [reference, config] of Object.entries(networking?.endpoints ?? {})) {
    const name = nameOfNetwork(state, reference === "default" ? "bridge" : reference);
    refuseForeignAddress(state, name, config.ipv4Address, `invalid config for network ${reference}: `);
    endpoints[name] = plannedEndpoint(state, name, config);
  }
  const own = nameOfNetwork(state, networkMode);
  if (endpoints[own] === undefined && (!isPredefined(own) || Object.keys(endpoints).length === 0)) {
    endpoints[own] = plannedEndpoint(state, own, create(EndpointConfigSchema, { macAddress }));
  }
  return endpoints;
}

/**
 * The endpoints of a container that starts, with addresses taken from the book.
 *
 * @throws what taking an address throws; not-found: the network. Addresses taken before are let go.
 */
export function connectedEndpoints(
  state: State,
  addresses: AddressBook,
  record: ContainerRecord,
): Record<string, NetworkEndpoint> {
  const connected: Record<string, NetworkEndpoint> = {};
  try {
    for (const [name, endpoint] of Object.entries(record.endpoints)) {
      connected[name] = connectedEndpoint(state, addresses, record, name, endpoint);
    }
  } catch (error) {
    releaseAddresses(addresses, connected);
    throw error;
  }
  return connected;
}

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
 * At which peers reach a container, where the addresses of its endpoints are virtual; empty: they are its own, or it does
 * not run. What an earlier version has started tells it with its endpoints alone.
 */
export function reachableAddressOf({ reachableAddress, endpoints }: ContainerRecord): string {
  const told = Object.values(endpoints).find((endpoint) => endpoint.reachableAddress !== "");
  return reachableAddress || (told?.reachableAddress ?? "");
}

/** Its interface is the platform's: a hardware address that was asked for is on none. */
export function placedEndpoint(endpoint: NetworkEndpoint, address: string): NetworkEndpoint {
  const macAddress = address === "" ? endpoint.macAddress : macOfAddress(endpoint.ipAddress);
  return create(NetworkEndpointSchema, { ...endpoint, macAddress, reachableAddress: address });
}

/** A container that shares another's network has its host name too, from the start on; others keep theirs. */
export function withSharedHostname(state: State, record: ContainerRecord): ContainerRecord {
  const reference = containerOfMode(hostConfigOf(record).networkMode);
  if (reference === undefined) {
    return record;
  }
  const { hostname, domainname } = configOf(networkDonor(state, reference));
  return withFields(record, { config: { ...configOf(record), hostname, domainname } });
}

/** Lets the addresses of endpoints go. */
export function releaseAddresses(addresses: AddressBook, endpoints: Endpoints): void {
  for (const { networkId, ipAddress } of Object.values(endpoints)) {
    addresses.release(networkId, ipAddress);
  }
}

/**
 * How a container that starts is joined to networks.
 *
 * @throws not-found: a network, or the container whose network is shared; conflict: that does not run
 */
export function networkPlanOf(state: State, record: ContainerRecord): NetworkPlan {
  const { networkMode } = hostConfigOf(record);
  const reference = containerOfMode(networkMode);
  if (reference !== undefined) {
    return { kind: "container", containerId: networkDonor(state, reference).id };
  }
  if (networkMode === "host") {
    return { kind: "host" };
  }
  if (isWithoutNetwork(record)) {
    return { kind: "none" };
  }
  const names = Object.keys(record.endpoints);
  return { kind: "networks", networks: names.map((name) => ({ name, record: findNetwork(state, name) })) };
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

/** A running container whose network is to be shared. @throws not-found; conflict: it does not run */
function networkDonor(state: State, reference: string): ContainerRecord {
  const donor = findContainer(state, reference);
  if (!hasProcess(donor)) {
    throw conflict(
      `cannot join network namespace of a non running container: container ${donor.name} is ${statusName(donor)}`,
    );
  }
  return donor;
}

/** An endpoint of a container that does not run. */
export function plannedEndpoint(state: State, name: string, config: EndpointConfig): NetworkEndpoint {
  const known = state.networks.named(name);
  return create(NetworkEndpointSchema, { config, networkId: known?.network?.id ?? "" });
}

/** One more endpoint of a container that runs. @throws as {@link connectedEndpoints} */
export function connectedEndpoint(
  state: State,
  addresses: AddressBook,
  record: ContainerRecord,
  name: string,
  endpoint: NetworkEndpoint,
): NetworkEndpoint {
  const { network } = findNetwork(state, name);
  if (network.configOnly) {
    throw forbidden("cannot create endpoint on configuration-only network");
  }
  const config = endpoint.config ?? create(EndpointConfigSchema);
  config.links.forEach(parseLink); // Docker refuses malformed ones only now.
  refuseForeignAddress(state, name, config.ipv4Address);
  const held = addresses.take(network, config.ipv4Address);
  return create(NetworkEndpointSchema, {
    config,
    networkId: network.id,
    endpointId: newId(),
    ...(held === undefined
      ? {}
      : {
          ipAddress: held.address,
          ipPrefixLen: held.prefixLength,
          gateway: held.gateway,
          macAddress: config.macAddress === "" ? macOfAddress(held.address) : config.macAddress,
        }),
    dnsNames: isPredefined(name) ? [] : dnsNamesOf(record, config.aliases),
  });
}

/**
 * Refuses an address that containers cannot ask for on a network; one that does not exist says so at the start.
 *
 * @throws invalid
 */
export function refuseForeignAddress(state: State, name: string, address: string, prefix = ""): void {
  const known = state.networks.named(name);
  const [pool] = known?.network?.pools ?? [];
  if (address === "" || known === undefined) {
    return;
  }
  if (pool?.configured !== true) {
    throw invalid(`${prefix}invalid endpoint settings:\n${ownSubnetsOnly}`);
  }
  const asked = parseAddress(address);
  const subnet = parseCidr(pool.subnet);
  if (asked === undefined || subnet === undefined || !overlaps({ base: asked, prefix: 32 }, subnet)) {
    throw invalid(
      `${prefix}invalid endpoint settings:\nno configured subnet or ip-range contain the IP address ${address}`,
    );
  }
}

/** The names that peers on a user-defined network find the container by. */
function dnsNamesOf(record: ContainerRecord, aliases: readonly string[]): string[] {
  const { hostname } = configOf(record);
  const names = [record.name, ...aliases, shortId(record.id), hostname];
  return [...new Set(names.filter((name) => name !== ""))];
}

function nameOfNetwork(state: State, reference: string): string {
  try {
    return findNetwork(state, reference).network.name;
  } catch {
    return reference; // The start will say that it does not exist, as Docker's does.
  }
}

function isPredefined(network: string): boolean {
  return network === "default" || builtinNetworks.has(network);
}
