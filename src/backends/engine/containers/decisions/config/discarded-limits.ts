/** Limits that the machine's kernel does not support: discarded with a warning, as in dockerd. Pure. */
import type { Resources } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import type { LimitFeature } from "../../../../driver/machine.ts";

/** Resource settings without the discarded ones, and warnings. */
export interface KeptLimits {
  readonly resources: Resources;
  readonly warnings: readonly string[];
}

/** A kernel feature, the settings that need it, and Docker's warning. */
interface Discard {
  /** Absent if current kernels no longer have it. */
  readonly feature?: LimitFeature;
  readonly isAsked: (resources: Resources) => boolean;
  readonly warning: string;
  readonly without: Partial<Resources>;
}

const notMounted = "or the cgroup is not mounted.";

const discards: readonly Discard[] = [
  {
    isAsked: ({ kernelMemory, kernelMemoryTcp }) => kernelMemory > 0n || kernelMemoryTcp > 0n,
    warning: `Your kernel does not support kernel memory limit capabilities ${notMounted} Limitation discarded.`,
    without: { kernelMemory: 0n, kernelMemoryTcp: 0n },
  },
  {
    feature: "memory",
    isAsked: ({ memory }) => memory > 0n,
    warning: `Your kernel does not support memory limit capabilities ${notMounted} Limitation discarded.`,
    without: { memory: 0n, memorySwap: -1n },
  },
  {
    feature: "swap",
    isAsked: ({ memory, memorySwap }) => memory > 0n && memorySwap !== -1n,
    warning: `Your kernel does not support swap limit capabilities ${notMounted} Memory limited without swap.`,
    without: { memorySwap: -1n },
  },
  {
    feature: "swappiness",
    isAsked: ({ memorySwappiness }) => memorySwappiness !== undefined && memorySwappiness !== -1n,
    warning: `Your kernel does not support memory swappiness capabilities ${notMounted} Memory swappiness discarded.`,
    without: { memorySwappiness: -1n },
  },
  {
    feature: "reservation",
    isAsked: ({ memoryReservation }) => memoryReservation > 0n,
    warning: `Your kernel does not support memory soft limit capabilities ${notMounted} Limitation discarded.`,
    without: { memoryReservation: 0n },
  },
  {
    feature: "oom-kill-disable",
    isAsked: ({ oomKillDisable }) => oomKillDisable === true,
    warning: "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
    without: { oomKillDisable: false },
  },
  {
    feature: "pids",
    isAsked: ({ pidsLimit }) => pidsLimit !== undefined && pidsLimit > 0n,
    warning: `Your kernel does not support PIDs limit capabilities ${notMounted} PIDs limit discarded.`,
    without: { pidsLimit: 0n },
  },
  {
    feature: "cpu-shares",
    isAsked: ({ cpuShares }) => cpuShares > 0n,
    warning: `Your kernel does not support CPU shares ${notMounted} Shares discarded.`,
    without: { cpuShares: 0n },
  },
  {
    feature: "cpu-quota",
    isAsked: ({ cpuPeriod, cpuQuota }) => cpuPeriod !== 0n || cpuQuota !== 0n,
    warning: "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.",
    without: { cpuPeriod: 0n, cpuQuota: 0n },
  },
  {
    feature: "cpuset",
    isAsked: ({ cpusetCpus, cpusetMems }) => cpusetCpus !== "" || cpusetMems !== "",
    warning: `Your kernel does not support cpuset ${notMounted} Cpuset discarded.`,
    without: { cpusetCpus: "", cpusetMems: "" },
  },
  {
    feature: "io-weight",
    isAsked: ({ blkioWeight }) => blkioWeight > 0,
    warning: `Your kernel does not support Block I/O weight ${notMounted} Weight discarded.`,
    without: { blkioWeight: 0 },
  },
  {
    feature: "io-weight-device",
    isAsked: ({ blkioWeightDevice }) => blkioWeightDevice.length > 0,
    warning: `Your kernel does not support Block I/O weight_device ${notMounted} Weight-device discarded.`,
    without: { blkioWeightDevice: [] },
  },
  {
    feature: "io-read-bps",
    isAsked: ({ blkioDeviceReadBps }) => blkioDeviceReadBps.length > 0,
    warning: `Your kernel does not support BPS Block I/O read limit ${notMounted} Block I/O BPS read limit discarded.`,
    without: { blkioDeviceReadBps: [] },
  },
  {
    feature: "io-write-bps",
    isAsked: ({ blkioDeviceWriteBps }) => blkioDeviceWriteBps.length > 0,
    warning: `Your kernel does not support BPS Block I/O write limit ${notMounted} Block I/O BPS write limit discarded.`,
    without: { blkioDeviceWriteBps: [] },
  },
  {
    feature: "io-read-iops",
    isAsked: ({ blkioDeviceReadIops }) => blkioDeviceReadIops.length > 0,
    warning: `Your kernel does not support IOPS Block read limit ${notMounted} Block I/O IOPS read limit discarded.`,
    without: { blkioDeviceReadIops: [] },
  },
  {
    feature: "io-write-iops",
    isAsked: ({ blkioDeviceWriteIops }) => blkioDeviceWriteIops.length > 0,
    warning: `Your kernel does not support IOPS Block write limit ${notMounted} Block I/O IOPS write limit discarded.`,
    without: { blkioDeviceWriteIops: [] },
  },
];

/**
 * The settings without those that the machine does not support. The argument is unchanged.
 *
 * @param missing features that the machine lacks
 */
export function discardMissingLimits(
  resources: Resources,
  missing: ReadonlySet<LimitFeature> | undefined,
): KeptLimits {
  const warnings: string[] = [];
  let kept = resources;
  for (const { feature, isAsked, warning, without } of discards) {
    if ((feature === undefined || missing?.has(feature) === true) && isAsked(kept)) {
      warnings.push(warning);
      kept = { ...kept, ...without };
    }
    if (feature === "oom-kill-disable" && kept.oomKillDisable === true && kept.memory === 0n) {
      warnings.push(
        "OOM killer is disabled for the container, but no memory limit is set, " +
          "this can result in the system running out of resources.",
      );
    }
  }
  if (kept.cpuPercent > 0n) {
    warnings.push("linux does not support CPU percent. Percent discarded.");
    kept = { ...kept, cpuPercent: 0n };
  }
  return { resources: kept, warnings };
}
