/** Job sizes of Container Apps. */
import { invalid } from "../../../common/errors.ts";
import type { HostConfig } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { askedCpus } from "../../cloud/ready-made/asked-cpus.ts";
import type { UnappliedSetting } from "../../driver/settings.ts";

/** A job's size. CPUs determine memory and disk. */
export interface JobSize {
  /** CPUs, a multiple of 0.25. */
  readonly cpu: number;
  /** GiB. */
  readonly memory: number;
  /** GiB, for the container's own files and its log. */
  readonly disk: number;
}

/** The default size. */
export interface DefaultSize {
  /** CPUs. */
  readonly cpu: number;
  /** Bytes. */
  readonly memory: number;
}

/** The maximum in an environment with workload profiles; half of it in others. */
export const largestCpu = 4;
/** The minimum, and the step between sizes. */
export const smallestCpu = 0.25;
/** GiB. */
export const memoryPerCpu = 2;
const gib = 1024 ** 3;

/** Disk in GiB by CPUs, ascending. */
const disks = [
  { upTo: 0.25, disk: 1 },
  { upTo: 0.5, disk: 2 },
  { upTo: 1, disk: 4 },
  { upTo: largestCpu, disk: 8 },
] as const;

/**
 * The smallest size that satisfies a container's `--cpus` or CPU quota, else `--cpu-shares` (1,024 are one CPU),
 * `--memory`, and `--storage-opt size=`. Defaults apply to missing values, but only as far as the given ones provide
 * them anyway.
 *
 * @throws invalid: no size is large enough, or a malformed disk size
 */
export function jobSizeOf(hostConfig: HostConfig | undefined, defaults: DefaultSize): JobSize {
  const cpu = askedCpus(hostConfig?.resources);
  const memory = Number(hostConfig?.resources?.memory ?? 0n);
  const disk = diskOf(hostConfig?.storageOpt ?? {});
  const isAsked = cpu > 0 || memory > 0;
  const wanted = Math.max(
    isAsked ? cpu : defaults.cpu,
    (isAsked ? memory : defaults.memory) / gib / memoryPerCpu,
    disk === 0 ? 0 : cpuOfDisk(disk),
  );
  const steps = Math.max(1, Math.ceil(wanted / smallestCpu - 1e-9));
  const size = steps * smallestCpu;
  if (size > largestCpu) {
    throw invalid(
      `a job has at most ${largestCpu} vCPU and ${largestCpu * memoryPerCpu} GiB of memory: ` +
        `${cpu || "no"} vCPU and ${Math.ceil(memory / 1024 ** 2) || "no"} MiB were asked for`,
    );
  }
  return sizeOfCpu(size);
}

/**
 * Describes a size that differs from the requested one, or has a smaller disk than the default.
 *
 * @throws as {@link jobSizeOf}
 */
export function sizeNotice(
  hostConfig: HostConfig | undefined,
  defaults: DefaultSize,
): UnappliedSetting | undefined {
  const cpu = askedCpus(hostConfig?.resources);
  const memory = Number(hostConfig?.resources?.memory ?? 0n);
  const size = jobSizeOf(hostConfig, defaults);
  const isOther = (cpu > 0 && size.cpu !== cpu) || (memory > 0 && size.memory * gib !== memory);
  const isSmall = size.disk < jobSizeOf(undefined, defaults).disk;
  return isOther || ((cpu > 0 || memory > 0) && isSmall)
    ? { name: "--cpus and --memory exactly", why: `the container gets ${describeSize(size)}` }
    : undefined;
}

/** Words for a size. */
export function describeSize({ cpu, memory, disk }: JobSize): string {
  return `${cpu} vCPU, ${memory} GiB of memory and ${disk} GiB of disk`;
}

function sizeOfCpu(cpu: number): JobSize {
  const disk = disks.find(({ upTo }) => cpu <= upTo)?.disk ?? disks[3].disk;
  return { cpu, memory: cpu * memoryPerCpu, disk };
}

/** The disk of `--storage-opt size=` in GiB; 0 if not given. @throws invalid */
function diskOf(storageOpt: Readonly<Record<string, string>>): number {
  const size = storageOpt["size"];
  if (size === undefined) {
    return 0;
  }
  const match = /^(\d+)([kmgt]?)i?b?$/i.exec(size.trim());
  if (match === null) {
    throw invalid(`invalid size: '${size}'`);
  }
  const power = ["", "k", "m", "g", "t"].indexOf((match[2] ?? "").toLowerCase());
  const found = (Number(match[1]) * 1024 ** power) / gib;
  if (found > disks[3].disk) {
    throw invalid(`a job has at most ${disks[3].disk} GiB of disk: ${size} was asked for`);
  }
  return found;
}

/** The fewest CPUs that provide a disk. */
function cpuOfDisk(disk: number): number {
  const index = disks.findIndex((each) => disk <= each.disk);
  return index < disks.length - 1 ? (disks[index]?.upTo ?? smallestCpu) : 1 + smallestCpu;
}
