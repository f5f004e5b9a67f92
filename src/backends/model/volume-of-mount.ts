/** The volume that a container's mount names. */
import type { ContainerRecord, VolumeRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../state/state.ts";
import { creatorOf } from "./inner-socket-labels.ts";
import { configOf } from "./records.ts";

/** The part of the state in which mounts are resolved. */
export type MountState = Pick<State, "containers" | "volumes">;

/**
 * The volume with that name now; undefined if there is none. A container that another created through its socket stays
 * among the volumes of these: its own may be gone, and the name be another's.
 */
export function volumeOfMount(
  { containers, volumes }: MountState,
  record: ContainerRecord,
  name: string,
): VolumeRecord | undefined {
  const volume = volumes.get(name);
  const creator = creatorOf(configOf(record).labels);
  if (volume === undefined || creator === undefined || creatorOf(volume.labels) === creator) {
    return volume;
  }
  const isMountedBy = ({ mounts, anonymousVolumes }: ContainerRecord): boolean =>
    anonymousVolumes.includes(name) || mounts.some((point) => point.type === "volume" && point.name === name);
  const root = containers.get(creator);
  if (root !== undefined && isMountedBy(root)) {
    return volume;
  }
  const isAnonymous = containers
    .withVolume(name)
    .some((each) => creatorOf(configOf(each).labels) === creator && each.anonymousVolumes.includes(name));
  return isAnonymous ? volume : undefined;
}
