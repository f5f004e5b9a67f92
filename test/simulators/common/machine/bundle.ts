/** The runtime specification of a container: Docker's defaults for a container without privilege, and its definition. */
import { readFileSync } from "node:fs";
import type { Image } from "./images.ts";
import type { Ulimit } from "./limits.ts";
import { seccompFor } from "./seccomp.ts";

/** A directory of this machine that a container sees. */
export interface Bind {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

/** A container as its definition and the overrides of its task describe it. */
export interface ContainerSpec {
  readonly name: string;
  readonly image: Image;
  /** Replaces the image's entry point and command. */
  readonly entryPoint?: readonly string[];
  /** Replaces the image's command. */
  readonly command?: readonly string[];
  /** Environment variables, which go before the image's. */
  readonly environment: Readonly<Record<string, string>>;
  /** `user`, `user:group`, by names of the image or by numbers. */
  readonly user?: string;
  readonly readonlyRootFilesystem: boolean;
  readonly binds: readonly Bind[];
  readonly tmpfs: readonly {
    readonly target: string;
    readonly sizeBytes: number;
    readonly options: readonly string[];
  }[];
  readonly ulimits: readonly Ulimit[];
  readonly sysctls: Readonly<Record<string, string>>;
  readonly addCapabilities: readonly string[];
  /** Bytes of memory, at most. */
  readonly memoryLimit: number;
  readonly cpuShares: number;
}

/** Surroundings in which a container runs. */
export interface Surroundings {
  /** A namespace that exists; the others are the container's own. */
  readonly networkNamespace: string;
  readonly hostname: string;
  readonly cgroup: string;
}

/** A user name that the image does not have, or another mistake in a definition that shows as a container is made. */
export class UnusableDefinition extends Error {}

const defaultCapabilities = [
  "CAP_AUDIT_WRITE",
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_MKNOD",
  "CAP_NET_BIND_SERVICE",
  "CAP_NET_RAW",
  "CAP_SETFCAP",
  "CAP_SETGID",
  "CAP_SETPCAP",
  "CAP_SETUID",
  "CAP_SYS_CHROOT",
];

const maskedPaths = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/interrupts",
  "/proc/kcore",
  "/proc/keys",
  "/proc/latency_stats",
  "/proc/sched_debug",
  "/proc/scsi",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/sys/devices/virtual/powercap",
  "/sys/firmware",
];
const readonlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/**
 * `config.json` for the runtime.
 *
 * @throws {UnusableDefinition} for a user that the image does not know, or without a command
 */
export function runtimeSpec(spec: ContainerSpec, around: Surroundings): object {
  const { config, rootfs } = spec.image;
  const capabilities = capabilitiesOf(spec);
  const user = resolveUser(spec.user ?? config.User ?? "", rootfs);
  return {
    ociVersion: "1.0.2",
    hostname: around.hostname,
    root: { path: "rootfs", readonly: spec.readonlyRootFilesystem },
    process: {
      terminal: false,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids },
      args: argumentsOf(spec),
      env: environmentOf(spec, around.hostname, user.home),
      cwd: config.WorkingDir || "/",
      // Docker gives a user other than root capabilities that it may gain, but none that it has.
      capabilities: {
        bounding: capabilities,
        permitted: user.uid === 0 ? capabilities : [],
        effective: user.uid === 0 ? capabilities : [],
      },
      noNewPrivileges: false,
      rlimits: spec.ulimits.map(({ name, soft, hard }) => ({
        type: `RLIMIT_${name.toUpperCase()}`,
        soft,
        hard,
      })),
    },
    mounts: [...engineMounts, ...ownMounts(spec)],
    linux: {
      cgroupsPath: around.cgroup,
      resources: {
        devices: [{ allow: false, access: "rwm" }, ...allowedDevices],
        memory: { limit: spec.memoryLimit, swap: spec.memoryLimit },
        cpu: { shares: spec.cpuShares },
      },
      namespaces: [
        { type: "mount" },
        { type: "uts" },
        { type: "ipc" },
        { type: "network", path: around.networkNamespace },
        { type: "pid" },
      ],
      sysctl: spec.sysctls,
      seccomp: seccompFor(capabilities),
      maskedPaths,
      readonlyPaths,
    },
  };
}

const allowedDevices = [
  ...["b", "c"].map((type) => ({ allow: true, type, access: "m" })),
  // null, zero, full, random, urandom, tty, console, ptmx and pts
  ...[
    [1, 3],
    [1, 5],
    [1, 7],
    [1, 8],
    [1, 9],
    [5, 0],
    [5, 1],
    [5, 2],
    [136, undefined],
  ].map(([major, minor]) => ({
    allow: true,
    type: "c",
    major,
    ...(minor !== undefined && { minor }),
    access: "rwm",
  })),
];

const engineMounts = [
  { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
  {
    destination: "/dev",
    type: "tmpfs",
    source: "tmpfs",
    options: ["nosuid", "strictatime", "mode=755", "size=65536k"],
  },
  {
    destination: "/dev/pts",
    type: "devpts",
    source: "devpts",
    options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
  },
  { destination: "/sys", type: "sysfs", source: "sysfs", options: ["nosuid", "noexec", "nodev", "ro"] },
  {
    destination: "/sys/fs/cgroup",
    type: "cgroup",
    source: "cgroup",
    options: ["ro", "nosuid", "noexec", "nodev"],
  },
  { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: ["nosuid", "noexec", "nodev"] },
  {
    destination: "/dev/shm",
    type: "tmpfs",
    source: "shm",
    options: ["nosuid", "noexec", "nodev", "mode=1777", "size=64m"],
  },
];

function ownMounts(spec: ContainerSpec): object[] {
  const mounts = [
    ...spec.tmpfs.map(({ target, sizeBytes, options }) => ({
      destination: target,
      type: "tmpfs",
      source: "tmpfs",
      options: ["nosuid", "nodev", "noexec", ...options, `size=${sizeBytes}`],
    })),
    ...spec.binds.map(({ source, target, readOnly }) => ({
      destination: target,
      type: "bind",
      source,
      options: ["rbind", readOnly ? "ro" : "rw", "rprivate"],
    })),
  ];
  // A mount that lies within another one has to come after it.
  return mounts.sort((one, other) => one.destination.split("/").length - other.destination.split("/").length);
}

function argumentsOf({ entryPoint, command, image: { config } }: ContainerSpec): string[] {
  const args =
    entryPoint !== undefined && entryPoint.length > 0
      ? [...entryPoint, ...(command ?? [])]
      : [
          ...(config.Entrypoint ?? []),
          ...(command !== undefined && command.length > 0 ? command : (config.Cmd ?? [])),
        ];
  if (args.length === 0) {
    throw new UnusableDefinition("no command specified");
  }
  return args;
}

function capabilitiesOf({ addCapabilities }: ContainerSpec): string[] {
  return [...new Set([...defaultCapabilities, ...addCapabilities.map((name) => `CAP_${name}`)])];
}

function environmentOf(spec: ContainerSpec, hostname: string, home: string): string[] {
  const image = (spec.image.config.Env ?? []).map((line): [string, string] => {
    const at = line.indexOf("=");
    return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1)];
  });
  const merged = new Map([
    [defaultPath.slice(0, 4), defaultPath.slice(5)],
    ["HOSTNAME", hostname],
    ...image,
    ...Object.entries(spec.environment),
  ]);
  if (!merged.has("HOME")) {
    merged.set("HOME", home);
  }
  return [...merged].map(([name, value]) => `${name}=${value}`);
}

interface ResolvedUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids: readonly number[];
  readonly home: string;
}

function resolveUser(text: string, rootfs: string): ResolvedUser {
  const [user = "", group] = text.split(":");
  const passwd = table(rootfs, "etc/passwd");
  const groups = table(rootfs, "etc/group");
  const entry = passwd.find(([name, , uid]) =>
    user === "" ? uid === "0" : (isNumber(user) ? uid : name) === user,
  );
  const uid = isNumber(user) ? Number(user) : Number(entry?.[2] ?? (user === "" ? 0 : Number.NaN));
  if (Number.isNaN(uid)) {
    throw new UnusableDefinition(`unable to find user ${user}: no matching entries in passwd file`);
  }
  const groupEntry = groups.find(([name, , gid]) => (isNumber(group ?? "") ? gid : name) === group);
  const gid = group === undefined ? Number(entry?.[3] ?? 0) : Number(groupEntry?.[2] ?? group);
  if (Number.isNaN(gid)) {
    throw new UnusableDefinition(`unable to find group ${group}: no matching entries in group file`);
  }
  const additionalGids =
    group !== undefined || entry === undefined
      ? []
      : groups
          .filter(([, , , members = ""]) => members.split(",").includes(entry[0] ?? ""))
          .map(([, , id]) => Number(id));
  return { uid, gid, additionalGids, home: entry?.[5] || "/" };
}

const isNumber = (text: string): boolean => /^\d+$/.test(text);

function table(rootfs: string, file: string): string[][] {
  try {
    const lines = readFileSync(`${rootfs}/${file}`, "utf8").split("\n");
    return lines.filter((line) => line !== "").map((line) => line.split(":"));
  } catch {
    return []; // an image need not have any users
  }
}
