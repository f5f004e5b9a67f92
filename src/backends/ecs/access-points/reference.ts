/** The access point in a volume's record, with its format and parser: `fs-…/fsap-…`. */
import type { VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";

/** The access point of a volume. */
export interface AccessPointReference {
  readonly fileSystemId: string;
  readonly accessPointId: string;
}

/** Formats the `driver_reference` of a volume's record: `fs-…/fsap-…`. */
export function formatAccessPoint(reference: AccessPointReference): string {
  return `${reference.fileSystemId}/${reference.accessPointId}`;
}

/**
 * The access point that a task mounts for a volume, or for a subpath.
 *
 * @returns undefined if the volume has none (it is anonymous, or there is no file system) and is a directory of the
 *   task
 */
export function accessPointOf(
  volume: Pick<VolumeRecord, "driverReference">,
): AccessPointReference | undefined {
  const [fileSystemId = "", accessPointId = ""] = volume.driverReference.split("/");
  return fileSystemId === "" || accessPointId === "" ? undefined : { fileSystemId, accessPointId };
}
