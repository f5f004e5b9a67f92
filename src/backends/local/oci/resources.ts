import type { Resources, ThrottleDevice } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { invalid } from "../../../common/errors.ts";
import type { LookedUpPaths } from "./looked-up-paths.ts";
import type { OciDeviceRule, OciResources, OciThrottle } from "./types.ts";

/** µs; the kernel's default, on which `--cpus` is based. */
const defaultCpuPeriod = 100_000;

/** Limits of the container's cgroup; unset fields mean no limit. */
export function containerResources(
  given: Resources | undefined,
  deviceRules: OciDeviceRule[],
  paths: Pick<LookedUpPaths, "devices">,
): OciResources {
  if (given === undefined) {
    return { devices: deviceRules };
  }
  const memory = memoryLimits(given);
  const cpu = cpuLimits(given);
  const blockIO = blockIoLimits(given, paths);
  return {
    devices: deviceRules,
    ...(Object.keys(memory).length > 0 && { memory }),
    ...(Object.keys(cpu).length > 0 && { cpu }),
    ...(given.pidsLimit !== undefined &&
      given.pidsLimit !== 0n && { pids: { limit: given.pidsLimit < 0n ? -1 : Number(given.pidsLimit) } }),
    ...(Object.keys(blockIO).length > 0 && { blockIO }),
  };
}

function memoryLimits(given: Resources): NonNullable<OciResources["memory"]> {
  return {
    ...(given.memory > 0n && { limit: Number(given.memory) }),
    ...(given.memoryReservation > 0n && { reservation: Number(given.memoryReservation) }),
    ...(swapLimit(given) !== undefined && { swap: swapLimit(given) as number }),
    ...(given.memorySwappiness !== undefined &&
      given.memorySwappiness >= 0n && { swappiness: Number(given.memorySwappiness) }),
    ...(given.oomKillDisable === true && { disableOOMKiller: true }),
  };
}

/** Limit for memory and swap together; by default a limited container gets as much swap as memory, as in Docker. */
function swapLimit(given: Resources): number | undefined {
  if (given.memorySwap !== 0n) {
    return Number(given.memorySwap);
  }
  return given.memory > 0n ? Number(given.memory * 2n) : undefined;
}

function cpuLimits(given: Resources): NonNullable<OciResources["cpu"]> {
  if (given.nanoCpus > 0n && (given.cpuQuota > 0n || given.cpuPeriod > 0n)) {
    throw invalid(
      `Conflicting options: Nano CPUs and CPU ${given.cpuPeriod > 0n ? "Period" : "Quota"} cannot both be set.`,
    );
  }
  const quota =
    given.nanoCpus > 0n
      ? Number((given.nanoCpus * BigInt(defaultCpuPeriod)) / 1_000_000_000n)
      : Number(given.cpuQuota);
  const period = given.nanoCpus > 0n ? defaultCpuPeriod : Number(given.cpuPeriod);
  return {
    ...(given.cpuShares > 0n && { shares: Number(given.cpuShares) }),
    ...(quota !== 0 && { quota }),
    ...(period !== 0 && { period }),
    ...(given.cpuRealtimePeriod !== 0n && { realtimePeriod: Number(given.cpuRealtimePeriod) }),
    ...(given.cpuRealtimeRuntime !== 0n && { realtimeRuntime: Number(given.cpuRealtimeRuntime) }),
    ...(given.cpusetCpus !== "" && { cpus: given.cpusetCpus }),
    ...(given.cpusetMems !== "" && { mems: given.cpusetMems }),
  };
}

/** Devices that have limits of their own. */
export function limitedDevices(given: Resources): { readonly path: string }[] {
  return [
    ...given.blkioWeightDevice,
    ...given.blkioDeviceReadBps,
    ...given.blkioDeviceWriteBps,
    ...given.blkioDeviceReadIops,
    ...given.blkioDeviceWriteIops,
  ];
}

function blockIoLimits(
  given: Resources,
  paths: Pick<LookedUpPaths, "devices">,
): NonNullable<OciResources["blockIO"]> {
  const throttles = (devices: readonly ThrottleDevice[]): OciThrottle[] =>
    devices.map(({ path, rate }) => ({ ...numbersOf(path, paths), rate: Number(rate) }));
  return {
    ...(given.blkioWeight !== 0 && { weight: given.blkioWeight }),
    ...(given.blkioWeightDevice.length > 0 && {
      weightDevice: given.blkioWeightDevice.map(({ path, weight }) => ({
        ...numbersOf(path, paths),
        weight,
      })),
    }),
    ...(given.blkioDeviceReadBps.length > 0 && {
      throttleReadBpsDevice: throttles(given.blkioDeviceReadBps),
    }),
    ...(given.blkioDeviceWriteBps.length > 0 && {
      throttleWriteBpsDevice: throttles(given.blkioDeviceWriteBps),
    }),
    ...(given.blkioDeviceReadIops.length > 0 && {
      throttleReadIOPSDevice: throttles(given.blkioDeviceReadIops),
    }),
    ...(given.blkioDeviceWriteIops.length > 0 && {
      throttleWriteIOPSDevice: throttles(given.blkioDeviceWriteIops),
    }),
  };
}

function numbersOf(path: string, paths: Pick<LookedUpPaths, "devices">): { major: number; minor: number } {
  const { nodes, failure } = paths.devices(path);
  if (failure !== "") {
    throw invalid(`no such device: ${path}`);
  }
  const device = nodes.find((node) => node.path === "");
  if (device === undefined) {
    throw invalid(`not a device node: ${path}`);
  }
  return { major: device.major, minor: device.minor };
}
