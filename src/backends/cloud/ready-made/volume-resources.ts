/** Volumes that are resources of their own in a cloud: a resource's name, and errors that name the volume. */
import { createHash } from "node:crypto";

import { isErrorKind } from "../../../common/errors.ts";
import type { VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { failureOf } from "../../driver/unsettled-error.ts";

const hashLength = 12;

/**
 * `<prefix>-<name>-<hash>`, of lowercase letters, digits and single hyphens. The hash distinguishes volumes whose names
 * differ only in characters that the cloud does not accept, volumes of other instances, and earlier volumes with the
 * name.
 *
 * @param longestKept maximum characters of the volume's name
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

/** Does work for a volume. Its errors name the verb and the volume, except conflicts, which keep their text. */
export async function toldOfVolume<T>(verb: string, volume: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw isErrorKind(error, "conflict") ? error : failureOf(`${verb} ${volume}`, error);
  }
}
