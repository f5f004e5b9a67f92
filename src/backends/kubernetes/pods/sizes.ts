/** Processors and memory of a pod: what a container asks for is reserved for it and is its limit. */
import type { V1ResourceRequirements } from "@kubernetes/client-node";

import type { KubernetesSection } from "../../../common/config/load.ts";
import { invalid } from "../../../common/errors.ts";
import type { HostConfig, Resources } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { askedCpus } from "../../cloud/ready-made/asked-cpus.ts";
import { numberIn } from "../quantities.ts";

/** Settings of sizes: reservations for a container that asks for nothing, and the nodes' resource that a GPU is. */
export type SizeSettings = Pick<KubernetesSection, "cpuRequest" | "memoryRequest" | "gpuResource">;

/** The most that a container may ask for; undefined: whatever a node has. */
export type LargestRequests = Pick<KubernetesSection, "maxCpu" | "maxMemory">;

/** @throws invalid: more is asked for than a container may have */
export function refuseTooLarge(
  hostConfig: HostConfig | undefined,
  { maxCpu, maxMemory }: LargestRequests,
): void {
  const cpus = askedCpus(hostConfig?.resources);
  if (maxCpu !== undefined && cpus > numberIn(maxCpu)) {
    throw invalid(`${cpus} processors are asked for: a container may have ${maxCpu} (kubernetes.max_cpu)`);
  }
  const { memory = 0n, memoryReservation = 0n } = hostConfig?.resources ?? {};
  const asked = memory > memoryReservation ? memory : memoryReservation;
  if (maxMemory !== undefined && asked > BigInt(maxMemory)) {
    throw invalid(
      `${asked} bytes of memory are asked for: a container may have ${maxMemory} (kubernetes.max_memory)`,
    );
  }
}

/** GPUs that a container asks for by number; undefined: by what no pod can name. */
export function askedGpus({ deviceRequests = [] }: Partial<Resources>): number | undefined {
  let gpus = 0;
  for (const { count, deviceIds, driver, capabilities, options } of deviceRequests) {
    const isGpu = capabilities.some(({ values }) => values.includes("gpu"));
    const isPlain = ["", "nvidia"].includes(driver) && Object.keys(options).length === 0;
    if (!isGpu || !isPlain || deviceIds.length > 0 || count < 1) {
      return undefined;
    }
    gpus += count;
  }
  return gpus;
}

/** The resources of a container. Shares of processors are reserved, and limit nothing. */
export function resourcesOf(
  hostConfig: HostConfig | undefined,
  { cpuRequest, memoryRequest, gpuResource }: SizeSettings,
): V1ResourceRequirements {
  const resources = hostConfig?.resources;
  const cpus = askedCpus(resources);
  const isLimit = (resources?.nanoCpus ?? 0n) > 0n || (resources?.cpuQuota ?? 0n) > 0n;
  const cpu = cpus === 0 ? cpuRequest : `${Math.max(1, Math.ceil(cpus * 1000))}m`;
  const limit = resources?.memory ?? 0n;
  const memory = limit > 0n ? limit : (resources?.memoryReservation ?? 0n) || BigInt(memoryRequest);
  const gpus = askedGpus(resources ?? {}) ?? 0;
  const disk = hostConfig?.storageOpt["size"];
  const limits = {
    ...(isLimit ? { cpu } : {}),
    ...(limit > 0n ? { memory: String(limit) } : {}),
    ...(gpus === 0 ? {} : { [gpuResource]: String(gpus) }),
    ...(disk === undefined ? {} : { "ephemeral-storage": bytesOf(disk) }),
  };
  return {
    requests: {
      ...(cpu === "0" ? {} : { cpu }),
      ...(memory === 0n ? {} : { memory: String(memory) }),
    },
    limits,
  };
}

/** The agent's memory while it copies files. Bytes. */
const leastInitMemory = 64 * 1024 ** 2;

/**
 * The resources of an init container: the container's own, which Kubernetes counts once for both, as a namespace with quotas
 * refuses containers without.
 */
export function initResourcesOf(
  hostConfig: HostConfig | undefined,
  settings: SizeSettings,
): V1ResourceRequirements {
  const { requests = {}, limits = {} } = resourcesOf(hostConfig, settings);
  const { [settings.gpuResource]: _gpus, memory, ...others } = limits;
  return {
    requests,
    limits: {
      ...others,
      ...(memory === undefined ? {} : { memory: String(Math.max(Number(memory), leastInitMemory)) }),
    },
  };
}

/** `10G` as Docker reads it, in binary units. */
function bytesOf(size: string): string {
  const [, digits = size, unit = ""] = /^(\d+)\s*([kmgt]?)i?b?$/i.exec(size) ?? [];
  return unit === "" ? digits : `${digits}${unit.toUpperCase()}i`;
}
