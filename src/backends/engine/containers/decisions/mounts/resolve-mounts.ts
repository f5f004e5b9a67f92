/** Resolves the mounts of a container's record for a driver. */
import path from "node:path/posix";

import { invalid, notFound } from "../../../../../common/errors.ts";
import type { HostConfig, Mount, TmpfsOptions } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import type { MountPoint } from "../../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord, ImageRecord } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import type { ResolvedMount } from "../../../../driver/workload-spec.ts";
import type { State } from "../../../../state/state.ts";
import { isOfBuild } from "../../../../model/build-label.ts";
import { hostConfigOf } from "../../../../model/records.ts";
import { type MountState, volumeOfMount } from "../../../../model/volume-of-mount.ts";
import type { Table } from "../../../../state/table.ts";
import { imageRecordOf } from "./image-mounts.ts";
import { parseBind } from "./parse-bind.ts";
import { cleanPath, type MountSettings, mountSettingsOf } from "./plan-mounts.ts";

/**
 * All mounts of a container, those nearer to the root first.
 *
 * @throws not-found: a volume is gone
 */
export function resolveMounts(
  record: ContainerRecord,
  state: MountState & Pick<State, "images">,
): readonly ResolvedMount[] {
  const hostConfig = hostConfigOf(record);
  const userMounts = userMountsOf(hostConfig);
  const settings = mountSettingsOf(record);
  const resolved = record.mounts.map((point) =>
    point.type === "image"
      ? mountedImage(record, point, userMounts.get(point.destination), state.images)
      : resolveMount(record, point, settings, userMounts.get(point.destination), state),
  );
  for (const [destination, options] of Object.entries(hostConfig.tmpfs)) {
    resolved.push({
      type: "tmpfs",
      destination: cleanPath(destination),
      readOnly: options.split(",").includes("ro"),
      tmpfsOptions: options === "" ? [] : options.split(","),
    });
  }
  return resolved.sort((a, b) => depth(a) - depth(b));
}

/** The user's entry for a destination, in the form of `Mounts`. */
interface UserMount {
  readonly mount: Mount;
  readonly inBinds: boolean;
}

function userMountsOf(hostConfig: HostConfig): ReadonlyMap<string, UserMount> {
  const userMounts = new Map<string, UserMount>();
  for (const text of hostConfig.binds) {
    const { mount } = parseBind(text, hostConfig.volumeDriver);
    userMounts.set(cleanPath(mount.target), { mount, inBinds: true });
  }
  for (const mount of hostConfig.mounts) {
    userMounts.set(cleanPath(mount.target), { mount, inBinds: false });
  }
  return userMounts;
}

/** @throws not-found: the record does not have the image */
function mountedImage(
  record: ContainerRecord,
  { destination, name }: MountPoint,
  userMount: UserMount | undefined,
  images: Table<ImageRecord>,
): ResolvedMount {
  const mount = record.imageMounts.find((each) => each.destination === destination);
  if (mount === undefined) {
    throw notFound(`No such image: ${name}`);
  }
  const { imageId, layerDiffIds, subpath } = mount;
  return {
    type: "image",
    destination,
    // Users' image mounts are read-only; build steps may write, which is discarded.
    readOnly: userMount?.mount.readOnly !== false || !isOfBuild(record.config?.labels ?? {}),
    image: imageRecordOf(images, record, imageId, layerDiffIds),
    layerDiffIds,
    ...(subpath === "" ? {} : { subpath }),
  };
}

function resolveMount(
  record: ContainerRecord,
  point: MountPoint,
  settings: MountSettings,
  userMount: UserMount | undefined,
  state: MountState,
): ResolvedMount {
  // An anonymous volume's path may be relative (`-v data`): runtimes mount it below the root.
  const common = { destination: path.resolve("/", point.destination), readOnly: !point.rw };
  switch (point.type) {
    case "volume": {
      const volume = volumeOfMount(state, record, point.name);
      if (volume === undefined) {
        throw notFound(`get ${point.name}: no such volume`);
      }
      const subpath = settings.subpathAt(point.destination);
      // Volumes from another container are mounted as they are: nothing is copied into them.
      const isTaken = userMount === undefined && Object.hasOwn(record.takenSubpaths, point.destination);
      return {
        ...common,
        type: "volume",
        volume,
        // Only the volume's first container copies files into it.
        copyUp: userMount?.mount.volumeOptions?.noCopy !== true && !isTaken && record.replaces === "",
        ...(subpath === "" ? {} : { subpath }),
      };
    }
    case "tmpfs":
      return {
        ...common,
        type: "tmpfs",
        tmpfsOptions: tmpfsOptions(userMount?.mount.tmpfsOptions, common.readOnly),
      };
    default:
      return {
        ...common,
        type: "bind",
        source: point.source,
        createSource: userMount?.inBinds !== false || userMount.mount.bindOptions?.createMountpoint === true,
        propagation: point.propagation,
        propagationAsked: (userMount?.mount.bindOptions?.propagation ?? "") !== "",
        nonRecursive: settings.isNonRecursiveAt(point.destination),
        ...(userMount?.inBinds === true && !point.rw && hostConfigOf(record).bindsReadOnlyNonRecursive
          ? { readOnlyBeneath: "no" as const }
          : readOnlyBeneath(userMount?.mount)),
      };
  }
}

/**
 * The mode of mounts beneath a read-only mount; Docker ignores these options for other mounts.
 *
 * @throws invalid: contradictory options, which Docker reports only at the start
 */
function readOnlyBeneath(mount: Mount | undefined): Pick<ResolvedMount, "readOnlyBeneath"> {
  const { readOnlyNonRecursive = false, readOnlyForceRecursive = false } = mount?.bindOptions ?? {};
  if (mount?.readOnly !== true || !(readOnlyNonRecursive || readOnlyForceRecursive)) {
    return {};
  }
  if (readOnlyNonRecursive && readOnlyForceRecursive) {
    throw invalid("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive");
  }
  return { readOnlyBeneath: readOnlyNonRecursive ? "no" : "required" };
}

function tmpfsOptions(options: TmpfsOptions | undefined, readOnly: boolean): string[] {
  const written = readOnly ? ["ro"] : [];
  if (options !== undefined && options.mode !== 0) {
    written.push(`mode=${options.mode.toString(8)}`);
  }
  if (options !== undefined && options.sizeBytes !== 0n) {
    written.push(`size=${options.sizeBytes}`);
  }
  return [...written, ...(options?.options ?? []).map(({ values }) => values.join("="))];
}

function depth(mount: ResolvedMount): number {
  return mount.destination.split("/").length;
}
