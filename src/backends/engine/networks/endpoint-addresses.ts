/** Allocates and frees the addresses of a container's endpoints. */
import { create } from "@bufbuild/protobuf";

import { setOwnValue } from "../../../common/own-value.ts";
import { forbidden } from "../../../common/errors.ts";
import { newId } from "../../../common/ids.ts";
import { EndpointConfigSchema } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  type NetworkEndpoint,
  NetworkEndpointSchema,
} from "../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../state/state.ts";
import { type Endpoints, macOfAddress } from "../../model/endpoints.ts";
import { unlessAborted } from "../../concurrency/unless-aborted.ts";
import { parseLink } from "../containers/decisions/links/parse-link.ts";
import type { AddressBook } from "./address-book.ts";
import { dnsNamesOf, isPredefined, refuseForeignAddress } from "./decisions/endpoints.ts";
import { networkOfEndpoint } from "./decisions/networks.ts";

/**
 * The endpoints of a starting container, with allocated addresses.
 *
 * @throws as the allocation; not-found: the network. Addresses allocated before are freed.
 */
export function connectedEndpoints(
  state: State,
  addresses: AddressBook,
  record: ContainerRecord,
): Record<string, NetworkEndpoint> {
  const connected: Record<string, NetworkEndpoint> = {};
  try {
    for (const [name, endpoint] of Object.entries(record.endpoints)) {
      setOwnValue(connected, name, connectedEndpoint(state, addresses, record, name, endpoint));
    }
  } catch (error) {
    releaseAddresses(addresses, connected);
    throw error;
  }
  return connected;
}

/** An additional endpoint of a running container. @throws as {@link connectedEndpoints} */
export function connectedEndpoint(
  state: State,
  addresses: AddressBook,
  record: ContainerRecord,
  name: string,
  endpoint: NetworkEndpoint,
): NetworkEndpoint {
  const { network } = networkOfEndpoint(state, record, name);
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
          macAddress: canonicalMac(config.macAddress) || macOfAddress(held.address),
        }),
    dnsNames: isPredefined(name) ? [] : dnsNamesOf(record, config.aliases, network),
  });
}

/** A valid MAC address in the form in which interfaces show it; an empty one stays so. */
function canonicalMac(address: string): string {
  return address.toLowerCase().replaceAll("-", ":");
}

/**
 * Waits for addresses of endpoints that ended runs have not released yet.
 *
 * @throws the signal's reason
 */
export async function awaitAddresses(
  state: State,
  addresses: AddressBook,
  endpoints: Endpoints,
  signal: AbortSignal,
): Promise<void> {
  for (const [name, { config }] of Object.entries(endpoints)) {
    const network = state.networks.named(name)?.network;
    const pending = () => network && addresses.pendingRelease(network, config?.ipv4Address ?? "");
    for (let release = pending(); release !== undefined; release = pending()) {
      await unlessAborted(signal, release);
    }
  }
}

/** Announces that endpoints' addresses will be released, or kept, once a promise settles. */
export function announceRelease(addresses: AddressBook, endpoints: Endpoints, over: Promise<void>): void {
  for (const { networkId, ipAddress } of Object.values(endpoints)) {
    addresses.announceRelease(networkId, ipAddress, over);
  }
}

/** Frees the addresses of endpoints. */
export function releaseAddresses(addresses: AddressBook, endpoints: Endpoints): void {
  for (const { networkId, ipAddress } of Object.values(endpoints)) {
    addresses.release(networkId, ipAddress);
  }
}
