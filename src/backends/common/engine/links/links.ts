/** Links between containers on the default bridge (`--link`): kept by ID, so that a new name does not break them. */
import { create } from "@bufbuild/protobuf";

import { fromUnknown, invalid, systemError } from "../../../../common/errors.ts";
import { type ContainerRecord, type Link, LinkSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { LinkedHost } from "../../driver.ts";
import type { State } from "../../state/state.ts";
import { findContainer } from "../lookup.ts";
import { configOf, hasProcess, hostConfigOf, isRemoved } from "../records.ts";
import { linkEnvironment } from "./link-environment.ts";

const bridge = "bridge";

/** The links that a new container asks for. @throws invalid: malformed, or to a container that is not there */
export function planLinks(state: State, links: readonly string[]): Link[] {
  return links.map((text) => {
    const { name, alias } = parseLink(text);
    const other = linkedContainer(state, name);
    if (hostConfigOf(other).networkMode === "host") {
      throw invalid(
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
      );
    }
    return create(LinkSchema, { containerId: other.id, alias });
  });
}

function linkedContainer(state: State, name: string): ContainerRecord {
  try {
    return findContainer(state, name);
  } catch (error) {
    throw invalid(`could not get container for ${name}: ${fromUnknown(error).message}`, error);
  }
}

/** `name`, `name:alias`, or, as inspect shows it, `/name:/parent/alias`. @throws invalid */
function parseLink(text: string): { readonly name: string; readonly alias: string } {
  if (text === "") {
    throw invalid("empty string specified for links");
  }
  const [name = "", alias = name, ...rest] = text.split(":");
  if (rest.length > 0) {
    throw invalid(`bad format for links: ${text}`);
  }
  return name.startsWith("/") && alias !== name
    ? { name: name.slice(1), alias: alias.slice(alias.lastIndexOf("/") + 1) }
    : { name, alias };
}

/** A container's links as inspect shows them: `/name:/parent/alias`; without those to containers that are gone. */
export function shownLinks(state: State, record: ContainerRecord): string[] {
  return record.links.flatMap(({ containerId, alias }) => {
    const other = state.containers.get(containerId);
    return other === undefined || isRemoved(other) ? [] : [`/${other.name}:/${record.name}/${alias}`];
  });
}

/** What a container that starts is told of those it is linked to. */
export interface TakenLinks {
  readonly env: readonly string[];
  readonly hosts: readonly LinkedHost[];
}

/** @throws system, as Docker at a start: one of them does not run, or is not on the default bridge */
export function takenLinks(state: State, record: ContainerRecord): TakenLinks {
  const links = record.links.flatMap(({ containerId, alias }) => {
    const other = state.containers.get(containerId);
    return other === undefined ? [] : [{ other, alias }]; // Docker forgets links to what is removed.
  });
  for (const { other, alias } of links) {
    if (!hasProcess(other)) {
      throw systemError(`Cannot link to a non running container: /${other.name} AS /${record.name}/${alias}`);
    }
    if (addressOf(other) === "") {
      throw systemError(`Cannot link to /${other.name}, as it does not belong to the default network`);
    }
  }
  return {
    env: links.flatMap(({ other, alias }) => environmentOfLink(record, other, alias)),
    hosts: links.map(({ other, alias }) => ({
      address: addressOf(other),
      names: [...new Set([alias, configOf(other).hostname, other.name])].filter((name) => name !== ""),
    })),
  };
}

/** The environment of an exec knows those of the linked containers that run. */
export function linkedEnvironment(state: State, record: ContainerRecord): string[] {
  return record.links.flatMap(({ containerId, alias }) => {
    const other = state.containers.get(containerId);
    return other === undefined || !hasProcess(other) ? [] : environmentOfLink(record, other, alias);
  });
}

function environmentOfLink(record: ContainerRecord, other: ContainerRecord, alias: string): string[] {
  const { env, exposedPorts } = configOf(other);
  return linkEnvironment({
    alias,
    name: `/${record.name}/${alias}`,
    address: addressOf(other),
    env,
    exposedPorts,
  });
}

function addressOf(record: ContainerRecord): string {
  return record.endpoints[bridge]?.ipAddress ?? "";
}
