/** Facts and disks of the machine, or of the cloud that stands for it. */

/** Sizes of what containers and volumes hold. */
export type Disk =
  /** Agents tell what containers have written, and nobody what is in volumes. */
  { readonly kind: "agents" } | DiskMeter;

/** The driver measures disks. */
export interface DiskMeter {
  readonly kind: "meter";
  /** Bytes of containers' writable layers, by ID, and of volumes, by name. What does not exist has none. */
  measure(
    what: { readonly containers: readonly string[]; readonly volumes: readonly string[] },
    signal?: AbortSignal,
  ): Promise<{
    readonly containers: ReadonlyMap<string, bigint>;
    readonly volumes: ReadonlyMap<string, bigint>;
  }>;
}

/** Facts of the machine or the cloud, as `docker info` tells them. */
export interface MachineFacts {
  readonly name: string;
  readonly operatingSystem: string;
  readonly osVersion: string;
  readonly kernelVersion: string;
  readonly architecture: string;
  readonly ncpu: number;
  /** Nodes that have memory, such as `0-1`; absent: not known. */
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
  /** The firewall that keeps networks apart, as `docker info` names it; absent: none of this machine. */
  readonly firewallBackend?: string;
  /** Paths that containers which are not privileged do not see, or may only read, unless they say otherwise. */
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  /** Limits that cannot be kept here: they are discarded with a warning. Absent: none are missing. */
  readonly missingLimits?: ReadonlySet<LimitFeature>;
}

/** A program, or a platform, that runs containers. */
export interface RuntimeFacts {
  readonly name: string;
  readonly path: string;
  readonly version: string;
  /** The commit of its source; empty: it does not say. */
  readonly commit: string;
}

/** Features of the machine that limits on a container's resources need. */
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

export interface Machine {
  facts(): Promise<MachineFacts>;
}
