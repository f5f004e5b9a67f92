/** Facts and disks of the machine, or of the cloud in its place. */

/** How the sizes of containers and volumes are found. */
export type Disk =
  /** Agents report what containers have written; sizes of volumes are unknown. */
  { readonly kind: "agents" } | DiskMeter;

/** The driver measures disks. */
export interface DiskMeter {
  readonly kind: "meter";
  /** Bytes of containers' writable layers, by ID, and of volumes, by name; nothing for those that do not exist. */
  measure(
    what: { readonly containers: readonly string[]; readonly volumes: readonly string[] },
    signal: AbortSignal,
  ): Promise<{
    readonly containers: ReadonlyMap<string, bigint>;
    readonly volumes: ReadonlyMap<string, bigint>;
  }>;
}

/** Facts about the machine or the cloud for `docker info`. */
export interface MachineFacts {
  readonly name: string;
  readonly operatingSystem: string;
  readonly osVersion: string;
  readonly kernelVersion: string;
  readonly architecture: string;
  readonly ncpu: number;
  /** NUMA nodes with memory, such as `0-1`; absent if unknown. */
  readonly memoryNodes?: string;
  readonly memTotal: bigint;
  readonly storageDriver: string;
  readonly storageStatus: readonly (readonly [string, string])[];
  readonly cgroupDriver: string;
  readonly cgroupVersion: string;
  readonly cgroupControllers: readonly string[];
  readonly runtimes: readonly RuntimeFacts[];
  readonly securityOptions: readonly string[];
  readonly warnings: readonly string[];
  /** The firewall that isolates networks, as named in `docker info`; absent if it is not this machine's. */
  readonly firewallBackend?: string;
  /** Paths that are hidden from unprivileged containers, or read-only for them, by default. */
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  /** Limits that cannot be enforced here: they are dropped with a warning. Absent if all can be. */
  readonly missingLimits?: ReadonlySet<LimitFeature>;
}

/** A program or a platform that runs containers. */
export interface RuntimeFacts {
  readonly name: string;
  readonly path: string;
  readonly version: string;
  /** The commit of its source; empty if unknown. */
  readonly commit: string;
}

/** Features of the machine required by limits on a container's resources. */
export type LimitFeature =
  | "memory"
  | "swap"
  | "swappiness"
  | "reservation"
  | "oom-kill-disable"
  | "pids"
  | "cpu-shares"
  | "cpu-quota"
  | "cpuset"
  | "io-weight"
  | "io-weight-device"
  | "io-read-bps"
  | "io-write-bps"
  | "io-read-iops"
  | "io-write-iops";

/** A quota of the cloud's. */
export interface QuotaUse {
  /** Its name as a metric's label: `fargate_vcpus`. */
  readonly name: string;
  /** Undefined while it is not known. */
  readonly most: number | undefined;
  /** Taken by all, where the cloud tells that; else by this backend's containers. */
  readonly used: number;
}

export interface Machine {
  facts(): Promise<MachineFacts>;
  /** Quotas that containers take from, for metrics; never fails. */
  quotas(signal: AbortSignal): Promise<readonly QuotaUse[]>;
}
