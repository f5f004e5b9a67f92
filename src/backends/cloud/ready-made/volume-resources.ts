/** Volumes that a cloud keeps each in a resource of its own: the resource's name, and failures in a volume's words. */
import { createHash } from "node:crypto";

import { isErrorKind } from "../../../common/errors.ts";
import type { VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { failureOf } from "../../driver/unsettled-error.ts";

const hashLength = 12;

/**
 * `<prefix>-<name>-<hash>`, of lowercase letters, digits and single hyphens. The hash keeps volumes apart whose names differ in
 * what the cloud does not take, those of other instances, and those that had the name before.
 *
 * @param longestKept characters of the volume's name
 */
export function volumeResourceName(
  prefix: string,
  { name, created }: Pick<VolumeRecord, "name" | "created">,
  instance: string,
  longestKept: number,
): string {
  const at = created === undefined ? "" : `${created.seconds}.${created.nanos}`;
  const hash = createHash("sha256")
    .update([instance, name, at].join("\n"))
    .digest("hex")
    .slice(0, hashLength);
  const kept = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .slice(0, longestKept)
    .replaceAll(/^-|-$/g, "");
  return [prefix, kept, hash].filter((part) => part !== "").join("-");
}

/** Does work for a volume, whose failure names both; a conflict is told in its own words. */
export async function toldOfVolume<T>(verb: string, volume: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw isErrorKind(error, "conflict") ? error : failureOf(`${verb} ${volume}`, error);
  }
}
