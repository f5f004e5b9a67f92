/** Subpaths of volumes that are mounted separately: each has its own access point. */
import { fromUnknown, invalid, SockerlessError } from "../../../common/errors.ts";
import type { VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ResolvedMount } from "../../driver/workload-spec.ts";
import { partPath } from "./path.ts";
import { accessPointOf } from "./reference.ts";

/** A directory of a volume. */
export interface VolumeDirectory {
  readonly volume: VolumeRecord;
  /** Normalized, not empty. */
  readonly subpath: string;
  /** ID of the whole volume's access point. */
  readonly wholeId: string;
  /** The directory's path on the file system. */
  readonly path: string;
}

/** @throws invalid: the directory cannot be mounted */
export function volumeDirectory(volume: VolumeRecord, subpath: string): VolumeDirectory {
  const whole = accessPointOf(volume);
  if (whole === undefined) {
    throw invalid(
      `invalid mount config for type "volume": volume ${volume.name} is a directory of each task, which has no ${subpath} when it starts: set ecs.efs_filesystem_id`,
    );
  }
  return { volume, subpath, wholeId: whole.accessPointId, path: partPath(volume, subpath) };
}

/** Refuses a new container with mounts of subpaths that EFS cannot have. @throws invalid */
export function refuseDirectories(mounts: readonly ResolvedMount[]): void {
  for (const { volume, subpath = "" } of mounts) {
    if (volume !== undefined && subpath !== "") {
      volumeDirectory(volume, subpath);
    }
  }
}

/** Words of ECS for any failed mount. */
const mountFailed = /EFS utils/i;

/** The error of a start; in Docker's words if a volume's subpath may be missing, which AWS does not name. */
export function withMissingDirectory(error: unknown, mounts: readonly ResolvedMount[]): unknown {
  const { kind, message } = fromUnknown(error);
  const paths = mounts.flatMap(({ volume, subpath = "" }) =>
    volume === undefined || subpath === "" ? [] : [`${volume.mountpoint}/${subpath}`],
  );
  return paths.length === 0 || !mountFailed.test(message)
    ? error
    : new SockerlessError(
        kind,
        `cannot access path ${paths.join(" or ")}: no such directory, or the file system is not reached: ${message}`,
        error,
      );
}
