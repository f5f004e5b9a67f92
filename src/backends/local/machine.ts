import { readFileSync } from "node:fs";
import { availableParallelism, hostname, machine, release, totalmem } from "node:os";
import type { HelloResponse } from "../../gen/sockerless/host/v1/host_pb.ts";
import type { Machine, MachineFacts } from "../driver/machine.ts";
import { quotasUnknown } from "../driver/ready-made-roles.ts";
import { missingLimits } from "./limit-features.ts";
import type { MachineProfile } from "./oci/spec.ts";

/** Facts about this machine for `docker info`; constant for the life of the process. */
export function localMachine(hello: HelloResponse, profile: MachineProfile): Machine {
  const system = operatingSystem();
  const facts: MachineFacts = {
    name: hostname(),
    operatingSystem: system.name,
    osVersion: system.version,
    kernelVersion: release(),
    architecture: machine(),
    ncpu: availableParallelism(),
    memoryNodes: memoryNodes(),
    memTotal: BigInt(totalmem()),
    storageDriver: "overlay2",
    storageStatus: [["Supports d_type", "true"]],
    cgroupDriver: "cgroupfs",
    cgroupVersion: hello.cgroupVersion,
    cgroupControllers: hello.cgroupControllers,
    runtimes: [
      {
        name: hello.runtimeName,
        path: hello.runtimePath,
        version: hello.runtimeVersion,
        commit: hello.runtimeCommit,
      },
    ],
    securityOptions: [
      ...(hello.seccomp ? ["name=seccomp,profile=builtin"] : []),
      ...(hello.cgroupVersion === "2" ? ["name=cgroupns"] : []),
    ],
    warnings: warningsOf(hello),
    firewallBackend: "nftables",
    maskedPaths: profile.maskedPaths,
    readonlyPaths: profile.readonlyPaths,
    missingLimits: missingLimits(hello.cgroupVersion, hello.cgroupControllers),
  };
  return { facts: () => Promise.resolve(facts), quotas: quotasUnknown };
}

function memoryNodes(): string {
  try {
    return readFileSync("/sys/devices/system/node/has_memory", "utf8").trim();
  } catch {
    return "0"; // A kernel without NUMA has one node.
  }
}

function warningsOf(hello: HelloResponse): string[] {
  const missing = ["memory", "cpu", "pids"].filter((name) => !hello.cgroupControllers.includes(name));
  return missing.map((name) => `WARNING: No ${name} limit support`);
}

/** os-release(5). */
function operatingSystem(): { name: string; version: string } {
  let text: string;
  try {
    text = readFileSync("/etc/os-release", "utf8");
  } catch {
    return { name: "Linux", version: "" };
  }
  const value = (key: string): string =>
    new RegExp(`^${key}=(?:"([^"\\n]*)"|([^\\n]*))$`, "m")
      .exec(text)
      ?.slice(1)
      .find((found) => found !== undefined) ?? "";
  return { name: value("PRETTY_NAME") || "Linux", version: value("VERSION_ID") };
}
