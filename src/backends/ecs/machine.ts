import { maskedPaths, readonlyPaths } from "../common/default-paths.ts";
import type { LimitFeature, Machine, MachineFacts } from "../common/driver.ts";
import type { EcsSection } from "../../common/config/load.ts";

/** Facts of a cluster for `docker info`. Fargate shows no machine, so they are the most that one task can have. */
export function ecsMachine(config: Pick<EcsSection, "cluster" | "region" | "architecture">): Machine {
  const facts: MachineFacts = {
    name: config.cluster,
    operatingSystem: `AWS Fargate (${config.region})`,
    osVersion: "",
    kernelVersion: "",
    architecture: config.architecture === "arm64" ? "aarch64" : "x86_64",
    ncpu: largestVcpu,
    memTotal: largestMemory,
    storageDriver: "fargate",
    storageStatus: [],
    cgroupDriver: "none",
    cgroupVersion: "2",
    cgroupControllers: ["cpu", "memory"],
    runtimes: [{ name: "fargate", path: "", version: "", commit: "" }],
    securityOptions: [],
    warnings: [],
    maskedPaths,
    readonlyPaths,
    missingLimits: limitsMissing,
  };
  return { facts: () => Promise.resolve(facts) };
}

const largestVcpu = 16;
const largestMemory = 120n * 1024n ** 3n;

/** A task has processors, memory and disk to itself, and Fargate keeps its other limits. */
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
