/** tmpfs mounts in task definitions. */
import type { Tmpfs } from "@aws-sdk/client-ecs";

import { invalid } from "../../../common/errors.ts";
import type { ResolvedMount, WorkloadSpec } from "../../driver/workload-spec.ts";

/** Default size of a tmpfs in MiB, as AWS requires one. */
const defaultMib = 64;
const sharedMemoryPath = "/dev/shm";
/** Default size of /dev/shm in Docker and Fargate, in bytes. */
const platformSharedMemory = 64n * 1024n ** 2n;
const units: Readonly<Record<string, number>> = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };

/** Mount options that AWS accepts besides the size: the same as moby's. */
const knownOptions = new Set(
  (
    "defaults ro rw suid nosuid dev nodev exec noexec sync async dirsync remount mand nomand atime noatime diratime " +
    "nodiratime bind rbind unbindable runbindable private rprivate shared rshared slave rslave relatime norelatime " +
    "strictatime nostrictatime"
  ).split(" "),
);
const knownSettings = new Set(["mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"]);

/**
 * A tmpfs mount. AWS has a parameter for its size; all other options are those of the kernel.
 *
 * @param memory of the task, MiB: a size in per cent is relative to it
 * @throws invalid: an invalid size, or an unknown option
 */
export function taskTmpfs(mount: ResolvedMount, memory: number): Tmpfs {
  const options = mount.tmpfsOptions ?? [];
  const size = options.find((option) => option.startsWith("size="))?.slice("size=".length);
  const rest = options.filter((option) => !option.startsWith("size="));
  rest.forEach(refuseUnknown);
  return {
    containerPath: mount.destination,
    size: size === undefined ? defaultMib : (share(size, memory) ?? mebibytes(size)),
    ...(rest.length > 0 ? { mountOptions: rest } : {}),
  };
}

/**
 * The tmpfs for `--shm-size`: as Fargate's own /dev/shm has a fixed size, another one is mounted over it. Empty if the
 * size is the default, or something else is mounted there.
 */
export function sharedMemory({ record, mounts }: WorkloadSpec): readonly Tmpfs[] {
  const size = record.hostConfig?.shmSize ?? 0n;
  const isOwn = size === 0n || size === platformSharedMemory;
  if (isOwn || mounts.some(({ destination }) => destination === sharedMemoryPath)) {
    return [];
  }
  return [
    {
      containerPath: sharedMemoryPath,
      size: mebibytes(String(size)),
      mountOptions: ["nosuid", "nodev", "noexec", "mode=1777"],
    },
  ];
}

/** @throws invalid, in Go's notation like moby's */
function refuseUnknown(option: string): void {
  const sign = option.indexOf("=");
  const parts = sign < 0 ? [option] : [option.slice(0, sign), option.slice(sign + 1)];
  if (!(sign < 0 ? knownOptions.has(option) : knownSettings.has(option.slice(0, sign)))) {
    throw invalid(`invalid tmpfs option [${parts.map((part) => JSON.stringify(part)).join(" ")}]`);
  }
}

/** Part of the memory by the kernel's notation `size=50%`, in MiB; undefined for another notation. */
function share(text: string, memory: number): number | undefined {
  const percent = /^(\d+)%$/.exec(text)?.[1];
  return percent === undefined ? undefined : Math.max(1, Math.ceil((memory * Number(percent)) / 100));
}

function mebibytes(text: string): number {
  const match = /^(\d+)([kmg]?)$/i.exec(text);
  if (match === null) {
    throw invalid(`invalid tmpfs size: ${text}`);
  }
  const bytes = Number(match[1]) * (units[(match[2] ?? "").toLowerCase()] ?? 1);
  return Math.max(1, Math.ceil(bytes / 1024 ** 2));
}
