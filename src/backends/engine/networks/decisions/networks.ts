/** Existing networks: lookup, listing, and their form for clients. */
import { create } from "@bufbuild/protobuf";

import { invalid, notFound } from "../../../../common/errors.ts";
import type { StringList } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  type Network,
  type NetworkMember,
  NetworkMemberSchema,
} from "../../../../gen/sockerless/backend/v1/network_pb.ts";
import {
  type ContainerRecord,
  type NetworkRecord,
  Phase,
} from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../../state/state.ts";
import { Filters } from "../../../model/filters.ts";
import { hasEndpointOn } from "../../../model/endpoints.ts";
import { creatorOf } from "../../../model/inner-socket-labels.ts";
import { configOf, hasProcess, sortedByTime } from "../../../model/records.ts";

/** The predefined networks, and the driver of each. */
export const builtinNetworks: ReadonlyMap<string, string> = new Map([
  ["bridge", "bridge"],
  ["host", "host"],
  ["none", "null"],
]);

/** A network that clients see. */
export type KnownNetwork = NetworkRecord & { network: Network };

/**
 * Resolves a user's reference to a network: full ID, name or unambiguous prefix of the ID.
 *
 * @param sees selects networks; default all
 * @throws not-found; invalid: ambiguous
 */
export function findNetwork(
  state: State,
  reference: string,
  sees: (network: Network) => boolean = () => true,
): KnownNetwork {
  const { networks } = state;
  for (const exact of [networks.get(reference), networks.named(reference)]) {
    if (exact !== undefined && isMade(exact) && sees(exact.network)) {
      return exact;
    }
  }
  const begun = networks
    .startingWith(reference)
    .filter(isMade)
    .filter(({ network }) => sees(network));
  if (begun.length > 1) {
    throw invalid(`network ${reference} is ambiguous (${begun.length} matches found based on ID prefix)`);
  }
  const [found] = begun;
  if (found === undefined) {
    throw notFound(`network ${reference} not found`);
  }
  return found;
}

/**
 * The network of a container's endpoint: the one with that name now. A container that another created through its
 * socket stays among the networks that its creator sees.
 *
 * @throws not-found
 */
export function networkOfEndpoint(state: State, record: ContainerRecord, name: string): KnownNetwork {
  const found = state.networks.named(name);
  if (found === undefined || !isMade(found) || !mayJoin(state, record, found.network)) {
    throw notFound(`network ${name} not found`);
  }
  return found;
}

function mayJoin(state: State, record: ContainerRecord, network: Network): boolean {
  const creator = creatorOf(configOf(record).labels);
  if (creator === undefined || creatorOf(network.labels) === creator) {
    return true;
  }
  const root = state.containers.get(creator);
  return hasEndpointOn(record, network) || (root !== undefined && hasEndpointOn(root, network));
}

/** The networks that match the filters. @throws invalid */
export function listNetworks(
  state: State,
  filterValues: Readonly<Record<string, StringList>>,
): readonly Network[] {
  const filters = new Filters(filterValues, ["dangling", "driver", "id", "label", "name", "scope", "type"]);
  const dangling = danglingOf(filters);
  const types = filters.get("type").map((type) => {
    if (type !== "builtin" && type !== "custom") {
      throw invalid(`invalid filter: 'type'='${type}'`);
    }
    return type;
  });
  const members = membersByNetwork(state);
  const listed = [...state.networks.values()].filter(isMade).filter(({ network }) => {
    const isBuiltin = builtinNetworks.has(network.name);
    const isDangling = !isBuiltin && !members.has(network.name);
    return (
      filters.matchesExactly("driver", network.driver) &&
      filters.matches("name", network.name) &&
      filters.matches("id", network.id) &&
      filters.matchesPairs("label", network.labels) &&
      filters.matchesExactly("scope", network.scope) &&
      (dangling === undefined || dangling === isDangling) &&
      (types.length === 0 || types.includes(isBuiltin ? "builtin" : "custom"))
    );
  });
  return sortedByTime(listed, "oldest first", ({ network }) => network.created).map((record) =>
    withMembers(record, members),
  );
}

/** The running containers on each network, by container ID and network name. */
type Members = ReadonlyMap<string, Record<string, NetworkMember>>;

/** The running containers on networks. @param only the name of one; undefined: all */
export function membersByNetwork(state: State, only?: string): Members {
  const members = new Map<string, Record<string, NetworkMember>>();
  for (const container of [...state.containers.values()].filter(hasProcess)) {
    for (const [network, endpoint] of Object.entries(container.endpoints)) {
      if (endpoint.endpointId !== "" && (only === undefined || network === only)) {
        const containers = members.get(network) ?? {};
        containers[container.id] = create(NetworkMemberSchema, {
          name: container.name,
          endpointId: endpoint.endpointId,
          macAddress: endpoint.macAddress,
          ipv4Address: endpoint.ipAddress === "" ? "" : `${endpoint.ipAddress}/${endpoint.ipPrefixLen}`,
        });
        members.set(network, containers);
      }
    }
  }
  return members;
}

/** A network with its current containers. */
export function withMembers({ network }: { readonly network: Network }, members: Members): Network {
  return { ...network, containers: members.get(network.name) ?? {} };
}

function danglingOf(filters: Filters): boolean | undefined {
  const values = filters.get("dangling");
  if (values.length > 1) {
    throw invalid('got more than one value for filter key "dangling"');
  }
  if (values.length === 1 && !["0", "1", "false", "true"].includes(values[0] ?? "")) {
    throw invalid(`invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")`);
  }
  return values.length === 0 ? undefined : filters.boolean("dangling");
}

/** Whether a network is visible to clients: not while it is being created or removed. */
export function isMade(record: NetworkRecord): record is KnownNetwork {
  return record.network !== undefined && record.phase === Phase.UNSPECIFIED;
}
