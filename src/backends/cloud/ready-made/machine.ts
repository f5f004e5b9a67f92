import { maskedPaths, readonlyPaths } from "../../security/default-paths.ts";
import { quotasUnknown } from "../../driver/ready-made-roles.ts";
import type { LimitFeature, Machine, MachineFacts } from "../../driver/machine.ts";

/** Facts of a cloud for `docker info`. */
export type CloudFacts = Pick<
  MachineFacts,
  "name" | "operatingSystem" | "architecture" | "ncpu" | "memTotal"
> & {
  /** The names of its runtime and storage driver. */
  readonly runtime: string;
};

/** A cloud's machine, described only by the cloud's facts. */
export function cloudMachine({ runtime, ...known }: CloudFacts): Machine {
  const facts: MachineFacts = {
    ...known,
    osVersion: "",
    kernelVersion: "",
    storageDriver: runtime,
    storageStatus: [],
    cgroupDriver: "none",
    cgroupVersion: "2",
    cgroupControllers: ["cpu", "memory"],
    runtimes: [{ name: runtime, path: "", version: "", commit: "" }],
    securityOptions: [],
    warnings: [],
    maskedPaths,
    readonlyPaths,
    missingLimits: limitsMissing,
  };
  return { facts: () => Promise.resolve(facts), quotas: quotasUnknown };
}

/** A task has CPUs, memory and disk of its own, and the cloud enforces its other limits. */
export const limitsMissing: ReadonlySet<LimitFeature> = new Set([
  "swappiness",
  "reservation",
  "oom-kill-disable",
  "pids",
  "cpuset",
  "io-weight",
  "io-weight-device",
  "io-read-bps",
  "io-write-bps",
  "io-read-iops",
  "io-write-iops",
]);
