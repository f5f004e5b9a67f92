/** Names of a volume's resources in Azure. Pure. */
import type { VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { volumeResourceName } from "../../cloud/ready-made/volume-resources.ts";

/**
 * Azure accepts 3 to 63 lowercase letters, digits and single hyphens for a share, and for a storage of an environment
 * at most 32, beginning with a letter: one name serves for both, and a read-only storage has three characters more.
 */
const longestKept = 12;
const readOnlySuffix = "-ro";

/** Prefix of shares' names. */
export const sharePrefix = "sk-";

/**
 * The name of a volume's share, and of the environment's storage that mounts it: `sk-<name>-<hash>`. The hash
 * distinguishes volumes whose names differ only in characters that Azure does not accept, volumes of other instances,
 * and earlier volumes with the name: Azure creates no share while it deletes another one with that name.
 */
export function shareName(volume: Pick<VolumeRecord, "name" | "created">, instance: string): string {
  return volumeResourceName(sharePrefix.slice(0, -1), volume, instance, longestKept);
}

/** The name of the storage through which a share is mounted. */
export function storageName(share: string, readOnly: boolean): string {
  return readOnly ? `${share}${readOnlySuffix}` : share;
}

/** The mountpoint shown to Docker's clients. It does not exist, as the volume is a share. */
export function volumeMountpoint(name: string): string {
  return `/mnt/azure/${name}`;
}
