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
import { linkEnvironment } from "./link-environment.ts";
import { linkName } from "./link-names.ts";
import { peerAddressOf } from "../../../../model/endpoints.ts";
import type { NamesContext } from "../../../networks/decisions/names-context.ts";
import { parseLink } from "./parse-link.ts";

const bridge = "bridge";

/**
 * The links of a new container. On a user-defined network links belong to the endpoint instead.
 *
 * @throws invalid: malformed, or to a missing container
 */
export function planLinks(state: State, { links, networkMode }: HostConfig): Link[] {
  if (isUserDefined(networkMode)) {
    return [];
  }
  return links.map((text) => {
    const { name, alias } = parseLink(text);
    const other = ownerOfNetwork(state, linkedContainer(state, name));
    if (hostConfigOf(other).networkMode === "host") {
      throw invalid(
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
      );
    }
    return create(LinkSchema, { containerId: other.id, alias: alias.replace(/^\/+/, "") });
  });
}

/** The container whose network a container shares (`--network container:…`), or itself. @throws invalid */
function ownerOfNetwork(state: State, record: ContainerRecord): ContainerRecord {
  const reference = containerOfMode(hostConfigOf(record).networkMode);
  return reference === undefined ? record : ownerOfNetwork(state, linkedContainer(state, reference));
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

/** @throws system, as in Docker: a linked container does not run, or is not on the default bridge */
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
    env: links.flatMap(({ other, alias }) => environmentOfLink(context, record, other, alias)),
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
  const names = new Set([alias, configOf(other).hostname, other.name]);
  return { address: addressOf(context, other), names: [...names].filter((name) => name !== "") };
}

/** Variables of an exec for its container's links, without stopped containers. */
export function linkedEnvironment(context: NamesContext, record: ContainerRecord): string[] {
  return record.links.flatMap(({ containerId, alias }) => {
    const other = context.state.containers.get(containerId);
    return other === undefined || !hasProcess(other) ? [] : environmentOfLink(context, record, other, alias);
  });
}

function environmentOfLink(
  context: NamesContext,
  record: ContainerRecord,
  other: ContainerRecord,
  alias: string,
): string[] {
  const { env, exposedPorts } = configOf(other);
  return linkEnvironment({
    alias,
    name: linkName(record, alias),
    address: addressOf(context, other),
    env,
    exposedPorts,
  });
}

/** Its address on the default bridge; empty if it has none now. */
function addressOf({ driver }: NamesContext, record: ContainerRecord): string {
  return peerAddressOf(record.endpoints[bridge], driver);
}

function isUserDefined(networkMode: string): boolean {
  return !builtinNetworks.has(networkMode) && networkMode !== "default" && !isContainerMode(networkMode);
}
