/**
 * Plans a new container's mounts: other containers', `Binds`, `Mounts`, the image's volumes, in this order.
 */
import path from "node:path/posix";

import { create } from "@bufbuild/protobuf";

import { invalid } from "../../../../../common/errors.ts";
import { ownValue } from "../../../../../common/own-value.ts";
import type {
  ContainerConfig,
  HostConfig,
  Mount,
} from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import { type MountPoint, MountPointSchema } from "../../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import { dockerSocketsOf } from "../../../../model/docker-socket.ts";
import { hostConfigOf } from "../../../../model/records.ts";
import { parseBind, parseVolumesFrom } from "./parse-bind.ts";

/** A volume that a mount needs; created if it does not exist. */
export interface WantedVolume {
  /** Empty for an anonymous volume. */
  readonly name: string;
  /** Empty for the backend's default driver. */
  readonly driver: string;
  readonly options: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
}

/** A mount whose volume is not resolved yet. */
export interface PlannedMount {
  readonly point: MountPoint;
  readonly volume?: WantedVolume;
  /** True for a bind mount from `Mounts`, whose source must exist. */
  readonly mustExist?: boolean;
  /** For a volume from another container: its subpath there, and whether it is removed with its last container. */
  readonly taken?: { readonly subpath: string; readonly isAnonymous: boolean };
  /** For a bind from another container: whether it is without the mounts beneath its source there. */
  readonly takenNonRecursive?: boolean;
}

/** The most mounts of a container, requested and from other containers: each costs time at every start. */
const mostMounts = 4_096;
/** Docker sockets of a container: whoever serves them takes memory for each. */
const mostDockerSockets = 8;

/** The most volumes of a container, with names: its record is written with each. */
const mostNamedVolumes = 256;

/** The most names in a mount point's path: each directory on the way to it is looked at. */
const mostNames = 255;

/** The most new anonymous volumes of a container, its image's included: each is made for a few bytes of a request. */
const mostAnonymousVolumes = 256;

/**
 * The mounts of a new container.
 *
 * @param findOther resolves an entry of `VolumesFrom`; throws if there is no such container
 * @param stateDirectory the backend's state directory; no bind may keep mounts in it alive
 * @throws invalid: a malformed entry, a duplicate or too deep destination, too many mounts or volumes, or a bind that
 *   would keep the backend's mounts alive
 */
export function planMounts(
  config: ContainerConfig,
  hostConfig: HostConfig,
  findOther: (reference: string) => ContainerRecord,
  stateDirectory?: string,
): readonly PlannedMount[] {
  const { volumesFrom, binds, mounts, tmpfs: temporary } = hostConfig;
  let count = [binds, mounts, config.volumes, Object.keys(temporary)].flat().length;
  refuseTooManyMounts(volumesFrom.length);
  refuseTooManyMounts(count);
  const planned = new Map<string, PlannedMount>();
  for (const entry of volumesFrom) {
    const { container, readOnly } = parseVolumesFrom(entry);
    const other = findOther(container);
    count += other.mounts.length;
    refuseTooManyMounts(count);
    for (const mount of mountsFrom(other, readOnly)) {
      planned.set(mount.point.destination, mount);
    }
  }
  const own = new Set<string>();
  const addOwn = (mount: PlannedMount, duplicateOf: boolean): void => {
    const { destination } = mount.point;
    if (own.has(destination) || duplicateOf) {
      throw invalid(`Duplicate mount point: ${destination}`);
    }
    own.add(destination);
    planned.set(destination, mount);
  };
  const tmpfs = new Set(Object.keys(temporary).map(cleanPath));
  for (const text of binds) {
    const { mount, mode } = parseBind(text, hostConfig.volumeDriver);
    addOwn(mountOf(mount, mode, stateDirectory), tmpfs.has(cleanPath(mount.target)));
  }
  for (const mount of mounts) {
    addOwn(
      { ...mountOf(mount, "", stateDirectory), mustExist: mount.bindOptions?.createMountpoint !== true },
      false,
    );
  }
  for (const volume of config.volumes) {
    const destination = cleanPath(volume);
    if (!planned.has(destination) && !tmpfs.has(destination)) {
      planned.set(destination, anonymousVolume(destination, hostConfig.volumeDriver));
    }
  }
  for (const destination of [...planned.keys(), ...tmpfs]) {
    refuseTooManyNames(destination);
  }
  const all = [...planned.values()];
  if (all.filter(({ volume }) => volume?.name === "").length > mostAnonymousVolumes) {
    throw invalid(
      `invalid mount config: a container has at most ${mostAnonymousVolumes} anonymous volumes of its own, its image's included`,
    );
  }
  const names = new Set(all.flatMap(({ volume }) => volume?.name || []));
  if (names.size > mostNamedVolumes) {
    throw invalid(
      `invalid mount config: a container mounts at most ${mostNamedVolumes} volumes: ${names.size} are named`,
    );
  }
  if (dockerSocketsOf({ mounts: all.map(({ point }) => point) }).length > mostDockerSockets) {
    throw invalid(`invalid mount config: a container has at most ${mostDockerSockets} Docker sockets`);
  }
  return all;
}

/** @throws invalid */
export function refuseTooManyMounts(count: number): void {
  if (count > mostMounts) {
    throw invalid(`invalid mount config: a container has at most ${mostMounts} mounts`);
  }
}

function refuseTooManyNames(destination: string): void {
  if (destination.split("/").length - 1 > mostNames) {
    throw invalid(`invalid mount config: the path of a mount point has at most ${mostNames} names`);
  }
}

/** A path in moby's form: normalized, without trailing slash. */
export function cleanPath(text: string): string {
  return path.normalize(text).replace(/(.)\/$/, "$1");
}

/**
 * The propagation of a bind. A bind that contains the backend's own mounts must not keep them alive after they are
 * unmounted.
 *
 * @throws invalid: the requested propagation would
 */
function propagationOf({ source, bindOptions }: Mount, stateDirectory: string | undefined): string {
  const asked = bindOptions?.propagation ?? "";
  if (
    stateDirectory === undefined ||
    !(isWithin(source, stateDirectory) || isWithin(stateDirectory, source))
  ) {
    return asked || "rprivate";
  }
  if (!["", "rslave", "rshared"].includes(asked)) {
    throw invalid(
      'invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the ' +
        `daemon root, daemon root: ${JSON.stringify(stateDirectory)}, bind mount source: ${JSON.stringify(source)}, ` +
        `propagation: ${JSON.stringify(asked)}`,
    );
  }
  return asked || "rslave";
}

function isWithin(file: string, directory: string): boolean {
  return !path.relative(cleanPath(directory), cleanPath(file)).startsWith("..");
}

function mountOf(mount: Mount, mode: string, stateDirectory: string | undefined): PlannedMount {
  const destination = cleanPath(mount.target);
  const common = { type: mount.type, destination, mode, rw: !mount.readOnly };
  switch (mount.type) {
    case "bind": {
      const propagation = propagationOf(mount, stateDirectory);
      return {
        point: create(MountPointSchema, { ...common, source: cleanPath(mount.source), propagation }),
      };
    }
    case "volume":
      return {
        // Docker shows the SELinux mode for relabelling the volume.
        point: create(MountPointSchema, { ...common, mode: mode || "z" }),
        volume: {
          name: mount.source,
          driver: mount.volumeOptions?.driverConfig?.name ?? "",
          options: mount.volumeOptions?.driverConfig?.options ?? {},
          labels: mount.volumeOptions?.labels ?? {},
        },
      };
    case "image":
      return {
        point: create(MountPointSchema, {
          ...common,
          name: mount.source,
          rw: false,
          propagation: "rprivate",
        }),
      };
    default:
      return { point: create(MountPointSchema, common) };
  }
}

function anonymousVolume(destination: string, driver: string): PlannedMount {
  return {
    point: create(MountPointSchema, { type: "volume", destination, rw: true }),
    volume: { name: "", driver, options: {}, labels: {} },
  };
}

/** Settings of a container's mounts that are not in their mount points. */
export interface MountSettings {
  /** The subpath of the volume at a destination, normalized; empty for the whole volume. */
  subpathAt(destination: string): string;
  /** Whether the bind at a destination is without the mounts beneath its source. */
  isNonRecursiveAt(destination: string): boolean;
}

/** Reads a container's mount settings: once for all its mounts. */
export function mountSettingsOf(record: ContainerRecord): MountSettings {
  const own = new Map(hostConfigOf(record).mounts.map((mount) => [cleanPath(mount.target), mount]));
  const takenNonRecursive = new Set(record.takenNonRecursive);
  return {
    subpathAt: (destination) => {
      const mount = own.get(destination);
      const subpath =
        mount === undefined ? ownValue(record.takenSubpaths, destination) : mount.volumeOptions?.subpath;
      return cleanPath(`/${subpath ?? ""}`).slice(1);
    },
    isNonRecursiveAt: (destination) =>
      takenNonRecursive.has(destination) || own.get(destination)?.bindOptions?.nonRecursive === true,
  };
}

function mountsFrom(other: ContainerRecord, readOnly: boolean): PlannedMount[] {
  // Image mounts are not inherited by other containers.
  const shared = other.mounts.filter(({ type }) => type !== "image");
  const settings = mountSettingsOf(other);
  const anonymous = new Set(other.anonymousVolumes);
  return shared.map((point) => {
    const copy = create(MountPointSchema, { ...point, rw: point.rw && !readOnly });
    return point.type === "volume"
      ? {
          point: copy,
          volume: { name: point.name, driver: point.driver, options: {}, labels: {} },
          taken: {
            subpath: settings.subpathAt(point.destination),
            isAnonymous: anonymous.has(point.name),
          },
        }
      : { point: copy, takenNonRecursive: settings.isNonRecursiveAt(point.destination) };
  });
}
