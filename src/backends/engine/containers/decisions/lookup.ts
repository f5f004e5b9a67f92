/** Resolves users' references: full ID, name, name of a link, or unambiguous prefix of the ID. */
import { invalid, notFound } from "../../../../common/errors.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../../state/state.ts";
import { linkNamed } from "./links/link-names.ts";
import { hasProcess, isRemoved, isVisible } from "../../../model/records.ts";

/**
 * Resolves a user's reference to a container.
 *
 * @param reference full ID, name with or without the slash, name of a link (`parent/alias`), or prefix of an ID
 * @throws not-found; invalid: empty, or an ambiguous prefix
 */
export function findContainer(state: State, reference: string): ContainerRecord {
  if (reference === "") {
    throw invalid('invalid name or ID supplied: ""');
  }
  const byId = state.containers.get(reference);
  if (byId !== undefined && isVisible(byId)) {
    return byId;
  }
  const byName = state.containers.named(reference.replace(/^\//, "")).find(isVisible);
  if (byName !== undefined) {
    return byName;
  }
  const byLink = state.containers.get(linkNamed(state, reference)?.link.containerId ?? "");
  if (byLink !== undefined && isVisible(byLink)) {
    return byLink;
  }
  const [byPrefix, ...others] = state.containers.startingWith(reference).filter(isVisible);
  if (others.length > 0) {
    throw invalid(`multiple IDs found with provided prefix: ${reference}`);
  }
  if (byPrefix === undefined) {
    throw notFound(`No such container: ${reference}`);
  }
  return byPrefix;
}

/** The container with an ID. @throws not-found, naming the reference, if it is gone */
export function containerOfId(state: State, id: string, reference = id): ContainerRecord {
  const record = state.containers.get(id);
  if (record === undefined || !isVisible(record)) {
    throw notFound(`No such container: ${reference}`);
  }
  return record;
}

/** The container's record, if a given run is still going on. @param generation the run's start counter */
export function runningContainer(state: State, id: string, generation: bigint): ContainerRecord | undefined {
  const record = state.containers.get(id);
  return record?.generation === generation && hasProcess(record) ? record : undefined;
}

/** The container that has a name (without the slash), visible or still being created. */
export function holderOfName(state: State, name: string): ContainerRecord | undefined {
  return state.containers.named(name).find((record) => !isRemoved(record));
}
