/** Links between containers on the default bridge (`--link`): stored by ID, so that renaming does not break them. */
import { create } from "@bufbuild/protobuf";

import { fromUnknown, invalid, systemError } from "../../../../../common/errors.ts";
import type { HostConfig } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  type ContainerRecord,
  type Link,
  LinkSchema,
} from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import type { LinkedHost } from "../../../../driver/workload-spec.ts";
import type { State } from "../../../../state/state.ts";
import { containerOfMode, isContainerMode } from "../../../../model/container-mode.ts";
import { findContainer } from "../lookup.ts";
import { builtinNetworks } from "../../../networks/decisions/networks.ts";
import { configOf, hasProcess, hostConfigOf, isRemoved } from "../../../../model/records.ts";
import { resolvableNames } from "../../../../model/host-names.ts";
import { linkEnvironment } from "./link-environment.ts";
import { linkName } from "./link-names.ts";
import { peerAddressOf } from "../../../../model/endpoints.ts";
import type { NamesContext } from "../../../networks/decisions/names-context.ts";
import { parseLink, refuseTooManyLinks } from "./parse-link.ts";

const bridge = "bridge";

/** The most that links add to an environment, in characters: about what Linux starts a process with (2 MiB). */
const longestEnvironment = 2_097_152;

/**
 * The links of a new container. On a user-defined network links belong to the endpoint instead.
 *
 * @throws invalid: malformed, too many, or to a missing container
 */
export function planLinks(state: State, { links, networkMode }: HostConfig): Link[] {
  refuseTooManyLinks(links);
  if (isUserDefined(networkMode)) {
    return [];
  }
  const owners = new Map<string, ContainerRecord>();
  return links.map((text) => {
    const { name, alias } = parseLink(text);
    const other = ownerOfNetwork(state, linkedContainer(state, name), owners);
    if (hostConfigOf(other).networkMode === "host") {
      throw invalid(
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
      );
    }
    return create(LinkSchema, { containerId: other.id, alias: alias.replace(/^\/+/, "") });
  });
}

/**
 * The container whose network a container shares (`--network container:…`), or itself.
 *
 * @param owners those found so far, by ID: the containers of several links may share one chain
 * @throws invalid
 */
function ownerOfNetwork(
  state: State,
  record: ContainerRecord,
  owners: Map<string, ContainerRecord>,
): ContainerRecord {
  const passed = new Set<string>();
  let owner = owners.get(record.id) ?? record;
  let reference = containerOfMode(hostConfigOf(owner).networkMode);
  while (reference !== undefined) {
    if (passed.has(owner.id)) {
      throw invalid(`cannot link to /${record.name}: the network modes of containers form a cycle`);
    }
    passed.add(owner.id);
    const next = linkedContainer(state, reference);
    owner = owners.get(next.id) ?? next;
    reference = containerOfMode(hostConfigOf(owner).networkMode);
  }
  for (const id of passed) {
    owners.set(id, owner);
  }
  return owner;
}

function linkedContainer(state: State, name: string): ContainerRecord {
  try {
    return findContainer(state, name);
  } catch (error) {
    throw invalid(`could not get container for ${name}: ${fromUnknown(error).message}`, error);
  }
}

/** A container's links as in inspect: `/name:/parent/alias`; without those to removed containers. */
export function shownLinks(state: State, record: ContainerRecord): string[] {
  return record.links.flatMap(({ containerId, alias }) => {
    const other = state.containers.get(containerId);
    return other === undefined || isRemoved(other) ? [] : [`/${other.name}:${linkName(record, alias)}`];
  });
}

/** Variables and hosts of a starting container's linked containers. */
export interface TakenLinks {
  readonly env: readonly string[];
  readonly hosts: readonly LinkedHost[];
}

/**
 * @throws system, as in Docker: a linked container does not run, or is not on the default bridge; invalid: too many
 *   variables
 */
export function takenLinks(context: NamesContext, record: ContainerRecord): TakenLinks {
  const { state } = context;
  const links = record.links.flatMap(({ containerId, alias }) => {
    const other = state.containers.get(containerId);
    return other === undefined ? [] : [{ other, alias }]; // Docker drops links to removed containers.
  });
  for (const { other, alias } of links) {
    if (!hasProcess(other)) {
      throw systemError(
        `Cannot link to a non running container: /${other.name} AS ${linkName(record, alias)}`,
      );
    }
    if (addressOf(context, other) === "" && other.endpoints[bridge] !== undefined) {
      throw systemError(`Cannot link to /${other.name}: containers do not reach one another here`);
    }
    if (addressOf(context, other) === "") {
      throw systemError(`Cannot link to /${other.name}, as it does not belong to the default network`);
    }
  }
  return {
    env: environmentOfLinks(context, record, links),
    hosts: links.map(({ other, alias }) => hostOfLink(context, other, alias)),
  };
}

/**
 * Current hosts of a container's links: the part of {@link takenLinks} that changes when a linked container restarts.
 */
export function linkedHosts(context: NamesContext, record: ContainerRecord): LinkedHost[] {
  return record.links.flatMap(({ containerId, alias }) => {
    const other = context.state.containers.get(containerId);
    return other === undefined || addressOf(context, other) === "" ? [] : [hostOfLink(context, other, alias)];
  });
}

/** IDs of the containers that link to a container. */
export function linkedFrom(state: State, containerId: string): string[] {
  return state.containers.linkedTo(containerId).map(({ id }) => id);
}

function hostOfLink(context: NamesContext, other: ContainerRecord, alias: string): LinkedHost {
  const names = resolvableNames([alias, configOf(other).hostname, other.name]);
  return { address: addressOf(context, other), names };
}

/** Variables of an exec for its container's links, without stopped containers. @throws invalid: too long */
export function linkedEnvironment(context: NamesContext, record: ContainerRecord): string[] {
  const links = record.links.flatMap(({ containerId, alias }) => {
    const other = context.state.containers.get(containerId);
    return other === undefined || !hasProcess(other) ? [] : [{ other, alias }];
  });
  return environmentOfLinks(context, record, links);
}

/** The variables of links. @throws invalid: no process could be started with them */
function environmentOfLinks(
  context: NamesContext,
  record: ContainerRecord,
  links: readonly { readonly other: ContainerRecord; readonly alias: string }[],
): string[] {
  const variables: string[] = [];
  let length = 0;
  for (const { other, alias } of links) {
    const { env, exposedPorts } = configOf(other);
    const name = linkName(record, alias);
    const address = addressOf(context, other);
    for (const variable of linkEnvironment({ alias, name, address, env, exposedPorts })) {
      length += variable.length;
      if (length > longestEnvironment) {
        throw invalid(`the environment of the links is too long: more than ${longestEnvironment} characters`);
      }
      variables.push(variable);
    }
  }
  return variables;
}

/** Its address on the default bridge; empty if it has none now. */
function addressOf({ driver }: NamesContext, record: ContainerRecord): string {
  return peerAddressOf(record.endpoints[bridge], driver);
}

function isUserDefined(networkMode: string): boolean {
  return !builtinNetworks.has(networkMode) && networkMode !== "default" && !isContainerMode(networkMode);
}
