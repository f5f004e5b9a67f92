/** Processors and memory of a pod: what a container asks for is reserved for it and is its limit. */
import type { V1ResourceRequirements } from "@kubernetes/client-node";

import type { HostConfig } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { askedCpus } from "../../cloud/ready-made/asked-cpus.ts";

/** Reservations for a container that asks for nothing. */
export interface SizeSettings {
  /** Processors, as Kubernetes writes them. */
  readonly cpuRequest: string;
  /** Bytes. */
  readonly memoryRequest: number;
}

/** The resources of a container. Shares of processors are reserved, and limit nothing. */
export function resourcesOf(
  hostConfig: HostConfig | undefined,
  { cpuRequest, memoryRequest }: SizeSettings,
): V1ResourceRequirements {
  const resources = hostConfig?.resources;
  const cpus = askedCpus(resources);
  const isLimit = (resources?.nanoCpus ?? 0n) > 0n || (resources?.cpuQuota ?? 0n) > 0n;
  const cpu = cpus === 0 ? cpuRequest : `${Math.max(1, Math.ceil(cpus * 1000))}m`;
  const limit = resources?.memory ?? 0n;
  const memory = limit > 0n ? limit : (resources?.memoryReservation ?? 0n) || BigInt(memoryRequest);
  const disk = hostConfig?.storageOpt["size"];
  const limits = {
    ...(isLimit ? { cpu } : {}),
    ...(limit > 0n ? { memory: String(limit) } : {}),
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

/** `10G` as Docker reads it, in binary units. */
function bytesOf(size: string): string {
  const [, digits = size, unit = ""] = /^(\d+)\s*([kmgt]?)i?b?$/i.exec(size) ?? [];
  return unit === "" ? digits : `${digits}${unit.toUpperCase()}i`;
}
