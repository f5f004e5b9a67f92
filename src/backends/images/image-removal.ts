/** Decides `docker rmi`: names are removed first, and the image with its last name. Error texts are moby's. */
import { conflict } from "../../common/errors.ts";
import { shortId } from "../../common/ids.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { hexOf } from "./digest.ts";
import { keyOf } from "./image-index.ts";
import { parseNamed, repositoryName } from "./reference.ts";

/** A container made from an image. */
export interface ImageUser {
  readonly id: string;
  /** True if it has a process, or will get one by a restart policy. */
  readonly running: boolean;
}

/** A request to remove an image or one of its names. */
export interface RemovalRequest {
  readonly record: ImageRecord;
  /** As written by the user: a name removes that name, an ID the image. */
  readonly reference: string;
  readonly force: boolean;
  readonly users: readonly ImageUser[];
  /** True if other images were committed on it: names are removed, the image stays. */
  readonly isParent: boolean;
}

/** The steps of a removal, to be done as one. */
export interface RemovalPlan {
  /** Names and digest references to remove, in the order of the report. */
  readonly untagged: readonly string[];
  /** True if the image itself is removed too. */
  readonly deleted: boolean;
}

/** Whether an image is to be removed along with the last one committed on it, as nothing else needs it. */
export function isLeftOver(record: ImageRecord, users: readonly ImageUser[], isParent: boolean): boolean {
  return referencesOf(record).length === 0 && users.length === 0 && !isParent;
}

/**
 * Decides a removal.
 *
 * @throws conflict in moby's words
 */
export function planRemoval(request: RemovalRequest): RemovalPlan {
  return isIdPrefix(request.record.id, request.reference) ? removalById(request) : removalByName(request);
}

function removalById(request: RemovalRequest): RemovalPlan {
  const references = referencesOf(request.record);
  if (request.isParent) {
    throw deletionConflict(request, "cannot be forced", "image has dependent child images");
  }
  if (!request.force && references.length > 0 && !isSingleReference(references)) {
    refuseInUse(request, "running");
    throw deletionConflict(request, "must be forced", "image is referenced in multiple repositories");
  }
  refuseInUse(request, request.force ? "running" : "any");
  return { untagged: references, deleted: true };
}

function removalByName(request: RemovalRequest): RemovalPlan {
  const { record, reference, force, users, isParent } = request;
  const references = referencesOf(record);
  const [user] = users;
  if (!force && isSingleReference(references) && user !== undefined) {
    throw conflict(
      `conflict: unable to remove repository reference "${reference}" (must force) - ` +
        `container ${shortId(user.id)} is using its referenced image ${shortId(record.id)}`,
    );
  }
  const named = parseNamed(reference);
  const repository = repositoryName(named);
  const untagged = [keyOf(named)];
  const remaining = references.filter((each) => each !== untagged[0]);
  const isOfRepository = (each: string): boolean => repositoryName(parseNamed(each)) === repository;
  if (
    named.digest === undefined &&
    !remaining.some((each) => !isDigestReference(each) && isOfRepository(each))
  ) {
    // Removing the last tag of a repository also removes the digests by which the image was pulled from it.
    untagged.push(...remaining.filter(isOfRepository));
  }
  const isLast = untagged.length === references.length;
  const inUse = users.some((each) => each.running || !force);
  return { untagged, deleted: isLast && !inUse && !isParent };
}

function refuseInUse(request: RemovalRequest, which: "running" | "any"): void {
  const { users } = request;
  const running = users.find((each) => each.running);
  if (running !== undefined) {
    throw deletionConflict(
      request,
      "cannot be forced",
      `image is being used by running container ${shortId(running.id)}`,
    );
  }
  const [stopped] = users;
  if (which === "any" && stopped !== undefined) {
    throw deletionConflict(
      request,
      "must be forced",
      `image is being used by stopped container ${shortId(stopped.id)}`,
    );
  }
}

function deletionConflict(request: RemovalRequest, force: string, reason: string): Error {
  return conflict(`conflict: unable to delete ${shortId(request.record.id)} (${force}) - ${reason}`);
}

function referencesOf(record: ImageRecord): string[] {
  return [...record.names, ...record.digests];
}

/** Whether there is just one name, besides the digests of its own repository. */
function isSingleReference(references: readonly string[]): boolean {
  const tags = references.filter((each) => !isDigestReference(each));
  const repositories = new Set(references.map((each) => repositoryName(parseNamed(each))));
  return references.length > 0 && tags.length <= 1 && repositories.size === 1;
}

function isDigestReference(reference: string): boolean {
  return reference.includes("@");
}

function isIdPrefix(id: string, text: string): boolean {
  return id.startsWith(text) || hexOf(id).startsWith(text);
}
