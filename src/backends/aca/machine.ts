import { maskedPaths, readonlyPaths } from "../common/default-paths.ts";
import type { LimitFeature, Machine, MachineFacts } from "../common/driver.ts";
import type { AcaSection } from "../../common/config/load.ts";

/** Facts of an environment for `docker info`. Container Apps shows no machine, so they are the most that one job can have. */
export function acaMachine(config: Pick<AcaSection, "managedEnvironmentName" | "location">): Machine {
  const facts: MachineFacts = {
    name: config.managedEnvironmentName,
    operatingSystem: `Azure Container Apps (${config.location})`,
    osVersion: "",
    kernelVersion: "",
    architecture: "x86_64",
    ncpu: largestVcpu,
    memTotal: largestMemory,
    storageDriver: "container-apps",
    storageStatus: [],
    cgroupDriver: "none",
    cgroupVersion: "2",
    cgroupControllers: ["cpu", "memory"],
    runtimes: [{ name: "container-apps", path: "", version: "", commit: "" }],
    securityOptions: [],
    warnings: [],
    maskedPaths,
    readonlyPaths,
    missingLimits: limitsMissing,
  };
  return { facts: () => Promise.resolve(facts) };
}

const largestVcpu = 4;
const largestMemory = 8n * 1024n ** 3n;

/** A job has processors, memory and disk to itself, and Container Apps keeps its other limits. */
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
