/** tmpfs mounts as task definitions have them. */
import type { Tmpfs } from "@aws-sdk/client-ecs";

import { invalid } from "../../../common/errors.ts";
import type { ResolvedMount, WorkloadSpec } from "../../driver/workload-spec.ts";

/** The size of a tmpfs for which none is named: AWS demands one. MiB. */
const defaultMib = 64;
const sharedMemoryPath = "/dev/shm";
/** The size of /dev/shm that Docker and Fargate give unasked. Bytes. */
const platformSharedMemory = 64n * 1024n ** 2n;
const units: Readonly<Record<string, number>> = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };

/** Mount options that AWS takes beside the size: the ones that moby takes. */
const knownOptions = new Set(
  (
    "defaults ro rw suid nosuid dev nodev exec noexec sync async dirsync remount mand nomand atime noatime diratime " +
    "nodiratime bind rbind unbindable runbindable private rprivate shared rshared slave rslave relatime norelatime " +
    "strictatime nostrictatime"
  ).split(" "),
);
const knownSettings = new Set(["mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"]);

/**
 * A tmpfs mount. Its size is an option of its own for AWS; the other options are the kernel's for both.
 *
 * @param memory of the task, MiB: a size in per cent is a share of it
 * @throws invalid: a size that is none, an option that there is not
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
 * The tmpfs for `--shm-size`: Fargate takes no size for its own /dev/shm, so another is mounted over it. Empty: the size
 * is the platform's anyway, or something else is mounted there.
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

/** @throws invalid, in Go's notation as moby's */
function refuseUnknown(option: string): void {
  const sign = option.indexOf("=");
  const parts = sign < 0 ? [option] : [option.slice(0, sign), option.slice(sign + 1)];
  if (!(sign < 0 ? knownOptions.has(option) : knownSettings.has(option.slice(0, sign)))) {
    throw invalid(`invalid tmpfs option [${parts.map((part) => JSON.stringify(part)).join(" ")}]`);
  }
}

/** A share of the memory, as the kernel reads `size=50%`. MiB; undefined: it is no share. */
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
