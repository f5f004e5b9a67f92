/** A container's endpoints: requested settings, and how it joins its networks. Pure. */
import { isIP, isIPv4, isIPv6 } from "node:net";

import { create } from "@bufbuild/protobuf";

import { statusName } from "../../../../common/container-status.ts";
import { ownValue, setOwnValue } from "../../../../common/own-value.ts";
import { conflict, invalid, messageOf, systemError } from "../../../../common/errors.ts";
import { shortId } from "../../../../common/ids.ts";
import type { Network } from "../../../../gen/sockerless/backend/v1/network_pb.ts";
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
import type { NetworkPlan } from "../../../driver/workload-spec.ts";
import type { State } from "../../../state/state.ts";
import { containerOfMode, isContainerMode } from "../../../model/container-mode.ts";
import { isWithoutNetwork } from "../../../model/endpoints.ts";
import { creatorOf } from "../../../model/inner-socket-labels.ts";
import { findContainer } from "../../containers/decisions/lookup.ts";
import { configOf, hasProcess, hostConfigOf, stateOf, withFields } from "../../../model/records.ts";
import { resolvableNames } from "../../../model/host-names.ts";
import { sysctlFaults } from "../../../model/bridge-options.ts";
import { overlaps, parseAddress, parseCidr } from "./cidr.ts";
import { refuseTooManyLinks } from "../../containers/decisions/links/parse-link.ts";
import { builtinNetworks, findNetwork, networkOfEndpoint } from "./networks.ts";

const ownSubnetsOnly =
  "user specified IP address is supported only when connecting to networks with user configured subnets";
const macPattern = /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i;

/** The most networks of a container. */
const mostNetworks = 256;

/** The most aliases of a container on a network: at each change all its peers are sent all names. */
const mostAliases = 128;
/** The most characters of them together. */
const mostAliasCharacters = 4_096;

/** The most driver options of a container on a network. */
const mostDriverOptions = 64;
/** The most characters of them together. */
const mostDriverOptionCharacters = 16_384;

/** Refuses invalid endpoint settings, and too many. @throws invalid */
export function validateNetworking(networking: NetworkingConfig): void {
  const requested = Object.entries(networking.endpoints);
  refuseTooManyNetworks(requested.length);
  for (const [network, endpoint] of requested) {
    refuseTooManyLinks(endpoint.links);
    refuseTooMany("aliases", endpoint.aliases, mostAliases, mostAliasCharacters);
    const options = Object.entries(endpoint.driverOpts).map((option) => option.join(""));
    refuseTooMany("driver options", options, mostDriverOptions, mostDriverOptionCharacters);
    const faults: string[] = [];
    if (isPredefined(network) && (endpoint.ipv4Address !== "" || endpoint.ipv6Address !== "")) {
      faults.push("user specified IP address is supported on user defined networks only");
    }
    if (isPredefined(network) && endpoint.aliases.length > 0) {
      faults.push("network-scoped alias is supported only for containers in user defined networks");
    }
    if (endpoint.ipv4Address !== "" && !isIPv4(endpoint.ipv4Address)) {
      faults.push(`invalid IPv4 address: ${endpoint.ipv4Address}`);
    }
    if (endpoint.ipv6Address !== "" && !isIPv6(endpoint.ipv6Address)) {
      faults.push(`invalid IPv6 address: ${endpoint.ipv6Address}`);
    }
    if (endpoint.ipv6Address !== "" && !isPredefined(network)) {
      faults.push(ownSubnetsOnly); // No network has IPv6.
    }
    for (const address of endpoint.linkLocalIps.filter((each) => isIP(each) === 0)) {
      faults.push(`invalid link-local IP address: ${address}`);
    }
    faults.push(...sysctlFaults(endpoint.driverOpts));
    if (endpoint.macAddress !== "" && !macPattern.test(endpoint.macAddress)) {
      throw invalid(`invalid config for network ${network}: invalid MAC address ${endpoint.macAddress}`);
    }
    if (faults.length > 0) {
      throw invalid(`invalid config for network ${network}: invalid endpoint settings:\n${joined(faults)}`);
    }
  }
}

function refuseTooMany(what: string, texts: readonly string[], most: number, mostCharacters: number): void {
  if (texts.length > most || texts.join("").length > mostCharacters) {
    throw invalid(`too many ${what}: at most ${most}, of ${mostCharacters} characters together`);
  }
}

/** @throws invalid */
export function refuseTooManyNetworks(count: number): void {
  if (count > mostNetworks) {
    throw invalid(`too many networks: ${count}, at most ${mostNetworks}`);
  }
}

/** Joins several errors as a list, like dockerd. */
function joined(faults: readonly string[]): string {
  return faults.length === 1 ? faults.join() : faults.map((fault) => `* ${fault}`).join("\n");
}

/**
 * The endpoints of a new container: the requested ones, and the one of its network mode.
 *
 * @throws invalid: an address outside of its network
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
    setOwnValue(endpoints, name, plannedEndpoint(state, name, config));
  }
  const own = nameOfNetwork(state, networkMode);
  if (ownValue(endpoints, own) === undefined && (!isPredefined(own) || Object.keys(endpoints).length === 0)) {
    setOwnValue(endpoints, own, plannedEndpoint(state, own, create(EndpointConfigSchema, { macAddress })));
  }
  return endpoints;
}

/** The host name: a container that shares another's network gets that one's host name at the start. */
export function withSharedHostname(state: State, record: ContainerRecord): ContainerRecord {
  const reference = containerOfMode(hostConfigOf(record).networkMode);
  if (reference === undefined) {
    return record;
  }
  const { hostname, domainname } = configOf(networkDonor(state, record, reference));
  return withFields(record, { config: { ...configOf(record), hostname, domainname } });
}

/**
 * How a starting container joins networks.
 *
 * @throws not-found: a network; system: no container to share the network of; conflict: that one does not run
 */
export function networkPlanOf(state: State, record: ContainerRecord): NetworkPlan {
  const { networkMode } = hostConfigOf(record);
  const reference = containerOfMode(networkMode);
  if (reference !== undefined) {
    return { kind: "container", containerId: networkDonor(state, record, reference).id };
  }
  if (networkMode === "host") {
    return { kind: "host" };
  }
  if (isWithoutNetwork(record)) {
    return { kind: "none" };
  }
  const names = Object.keys(record.endpoints);
  return {
    kind: "networks",
    networks: names.map((name) => ({ name, record: networkOfEndpoint(state, record, name) })),
  };
}

/**
 * A running container to share the network of.
 *
 * @throws system: it is missing, or the container itself; conflict: it does not run
 */
function networkDonor(state: State, { id }: ContainerRecord, reference: string): ContainerRecord {
  const donor = donorNamed(state, reference);
  if (donor.id === id) {
    throw systemError("cannot join own network namespace");
  }
  if (!hasProcess(donor)) {
    throw conflict(
      `cannot join network namespace of a non running container: container ${donor.name} is ${statusName(stateOf(donor).status)}`,
    );
  }
  return donor;
}

/** Error of a start without that container, as in dockerd, where a 404 would mean the container to start. */
function donorNamed(state: State, reference: string): ContainerRecord {
  try {
    return findContainer(state, reference);
  } catch (error) {
    throw systemError(`joining network namespace of container: ${messageOf(error)}`, error);
  }
}

/** An endpoint of a container that has not started yet; as in Docker with the requested MAC address. */
export function plannedEndpoint(state: State, name: string, config: EndpointConfig): NetworkEndpoint {
  const { macAddress } = config;
  const networkId = state.networks.named(name)?.network?.id ?? "";
  return create(NetworkEndpointSchema, { config, networkId, macAddress });
}

/**
 * Refuses an address that containers cannot request on a network; a missing network fails the start instead.
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

/**
 * The container's names for peers on a user-defined network. In a network of others, a container that another created
 * through its socket has no host name of its choice.
 */
export function dnsNamesOf(
  record: ContainerRecord,
  aliases: readonly string[],
  network: Pick<Network, "labels">,
): string[] {
  const { hostname, labels } = configOf(record);
  const creator = creatorOf(labels);
  const isOfOthers = creator !== undefined && creatorOf(network.labels) !== creator;
  return resolvableNames([record.name, ...aliases, shortId(record.id), ...(isOfOthers ? [] : [hostname])]);
}

function nameOfNetwork(state: State, reference: string): string {
  try {
    return findNetwork(state, reference).network.name;
  } catch {
    return reference; // The start reports that it does not exist, as in Docker.
  }
}

/** Whether a network is predefined. */
export function isPredefined(network: string): boolean {
  return network === "default" || builtinNetworks.has(network);
}
