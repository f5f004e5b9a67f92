/** Updates of a container's limits. Pure. */
import { conflict } from "../../../../../common/errors.ts";
import type {
  HostConfig,
  Resources,
  RestartPolicy,
} from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import { resourcesOf } from "../../../../model/records.ts";

/**
 * A host configuration after an update; zero or unset settings stay as they are. The arguments are unchanged.
 *
 * @throws conflict: the changes contradict other settings
 */
export function updatedHostConfig(
  hostConfig: HostConfig,
  changes: Resources,
  policy: RestartPolicy | undefined,
): HostConfig {
  const known = resourcesOf(hostConfig);
  for (const [contradicts, text] of contradictions(known, changes)) {
    if (contradicts) {
      throw conflict(text);
    }
  }
  const changesPolicy = policy !== undefined && policy.name !== "";
  if (changesPolicy && hostConfig.autoRemove && policy.name !== "no") {
    throw conflict("Restart policy cannot be updated because AutoRemove is enabled for the container");
  }
  return {
    ...hostConfig,
    resources: { ...known, ...givenSettings(changes) },
    ...(changesPolicy ? { restartPolicy: policy } : {}),
  };
}

/** The given settings, of those that can be changed. */
export function givenSettings(changes: Resources): Partial<Resources> {
  const { pidsLimit } = changes;
  const numbers = {
    blkioWeight: changes.blkioWeight,
    cpuShares: changes.cpuShares,
    nanoCpus: changes.nanoCpus,
    cpuPeriod: changes.cpuPeriod,
    cpuQuota: changes.cpuQuota,
    cpusetCpus: changes.cpusetCpus,
    cpusetMems: changes.cpusetMems,
    memory: changes.memory,
    memorySwap: changes.memorySwap,
    memoryReservation: changes.memoryReservation,
    cpuRealtimePeriod: changes.cpuRealtimePeriod,
    cpuRealtimeRuntime: changes.cpuRealtimeRuntime,
  };
  const said = Object.entries(numbers).filter(([, value]) => value !== 0n && value !== 0 && value !== "");
  return {
    ...(Object.fromEntries(said) as Partial<Resources>),
    // All of Docker's values for "unlimited" are stored as 0.
    ...(pidsLimit === undefined ? {} : { pidsLimit: pidsLimit > 0n ? pidsLimit : 0n }),
  };
}

/** Docker's texts. CPU limits are set in one of two ways, and swap includes memory. */
function contradictions(known: Resources, changes: Resources): readonly (readonly [boolean, string])[] {
  return [
    [
      changes.nanoCpus > 0n && known.cpuPeriod > 0n,
      "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
    ],
    [
      changes.nanoCpus > 0n && known.cpuQuota > 0n,
      "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
    ],
    [
      changes.cpuPeriod > 0n && known.nanoCpus > 0n,
      "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
    ],
    [
      changes.cpuQuota > 0n && known.nanoCpus > 0n,
      "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
    ],
    [
      changes.memory !== 0n && changes.memory > known.memorySwap && changes.memorySwap === 0n,
      "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
    ],
  ];
}
