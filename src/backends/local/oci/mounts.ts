import { systemError } from "../../../common/errors.ts";
import type { ResolvedMount } from "../../driver/workload-spec.ts";
import type { OciMount } from "./types.ts";

/** 64 MiB, the default of `--shm-size`. */
const defaultShmSize = 67_108_864n;

/** File systems of every container, in mount order, as in dockerd. */
function defaultMounts(shmSize: bigint): OciMount[] {
  const mount = (destination: string, type: string, source: string, ...options: string[]): OciMount => ({
    destination,
    type,
    source,
    options,
  });
  return [
    mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
    mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
    mount(
      "/dev/pts",
      "devpts",
      "devpts",
      "nosuid",
      "noexec",
      "newinstance",
      "ptmxmode=0666",
      "mode=0620",
      "gid=5",
    ),
    mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
    mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"),
    mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
    mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", `size=${shmSize}`),
  ];
}

/** Mounts that stay writable under `--read-only`. */
const writableUnderReadOnly = new Set(["/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"]);

export interface MountSettings {
  readonly shmSize: bigint;
  readonly readonlyRootfs: boolean;
  readonly privileged: boolean;
  /** "none" omits /dev/shm, "host" mounts the machine's; the host process replaces it if containers share it. */
  readonly ipcMode: string;
  /** Whether the runtime can make a mount recursively read-only. */
  readonly recursiveReadOnly: boolean;
  /** Whether the container may change its control groups. */
  readonly writableCgroups: boolean;
}

/**
 * All mounts of a container: the default ones, except those that the user's replace, then the user's, parents before
 * children.
 */
export function containerMounts(user: readonly ResolvedMount[], settings: MountSettings): OciMount[] {
  const taken = new Set(user.map((mount) => mount.destination));
  const mounts: OciMount[] = [];
  for (const mount of defaultMounts(settings.shmSize > 0n ? settings.shmSize : defaultShmSize)) {
    const hidden =
      taken.has(mount.destination) ||
      (taken.has("/dev") && mount.destination.startsWith("/dev/")) ||
      (mount.destination === "/dev/shm" && settings.ipcMode === "none");
    if (!hidden) {
      mounts.push(adjusted(mount, settings));
    }
  }
  const inOrder = [...user].sort((a, b) => depth(a.destination) - depth(b.destination));
  return [...mounts, ...inOrder.map((mount) => userMount(mount, settings))];
}

function adjusted(mount: OciMount, settings: MountSettings): OciMount {
  if (settings.ipcMode === "host" && mount.destination === "/dev/shm") {
    return { destination: "/dev/shm", type: "bind", source: "/dev/shm", options: ["rbind", "rprivate"] };
  }
  const isWritable =
    (settings.privileged && mount.destination === "/sys") ||
    (settings.writableCgroups && mount.destination === "/sys/fs/cgroup");
  if (isWritable) {
    return { ...mount, options: mount.options.filter((option) => option !== "ro") };
  }
  const closes =
    settings.readonlyRootfs && !writableUnderReadOnly.has(mount.destination) && !mount.options.includes("ro");
  return closes ? { ...mount, options: [...mount.options, "ro"] } : mount;
}

function depth(path: string): number {
  return path.split("/").filter((part) => part !== "").length;
}

function userMount(mount: ResolvedMount, settings: MountSettings): OciMount {
  if (mount.type === "tmpfs") {
    return {
      destination: mount.destination,
      type: "tmpfs",
      source: "tmpfs",
      options: ["noexec", "nosuid", "nodev", "rprivate", ...(mount.tmpfsOptions ?? [])],
    };
  }
  return {
    destination: mount.destination,
    type: "bind",
    source: sourceOf(mount),
    options: [
      mount.nonRecursive === true ? "bind" : "rbind",
      ...(mount.readOnly ? [readOnlyOption(mount, settings)] : []),
      mount.propagation === undefined || mount.propagation === "" ? "rprivate" : mount.propagation,
    ],
  };
}

/** `rro` includes mounts beneath. @throws system if that is required and the runtime does not support it */
function readOnlyOption(mount: ResolvedMount, { recursiveReadOnly }: MountSettings): "ro" | "rro" {
  if (mount.readOnlyBeneath === "required" && !recursiveReadOnly) {
    throw systemError("rro is not supported by the OCI runtime");
  }
  return mount.readOnlyBeneath !== "no" && recursiveReadOnly ? "rro" : "ro";
}

/** The source of a bind or volume mount on this machine. */
export function sourceOf(mount: ResolvedMount): string {
  if (mount.type === "image") {
    return ""; // The host process mounts it and knows the path.
  }
  const base = mount.volume === undefined ? (mount.source ?? "") : mount.volume.driverReference;
  return mount.subpath === undefined || mount.subpath === "" ? base : `${base}/${mount.subpath}`;
}
