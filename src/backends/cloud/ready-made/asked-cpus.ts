import type { Resources } from "../../../gen/sockerless/backend/v1/config_pb.ts";

const nanos = 1_000_000_000;
/** Docker's default period of CPU quotas, microseconds. */
const cpuPeriodUs = 100_000;
const sharesPerCpu = 1024;

/** The CPUs that a container requests, by `--cpus` or a CPU quota, else by `--cpu-shares`; 0 for none. */
export function askedCpus(resources: Resources | undefined): number {
  if (resources === undefined) {
    return 0;
  }
  if (resources.nanoCpus > 0n) {
    return Number(resources.nanoCpus) / nanos;
  }
  if (resources.cpuQuota > 0n) {
    return Number(resources.cpuQuota) / (Number(resources.cpuPeriod) || cpuPeriodUs);
  }
  return Number(resources.cpuShares) / sharesPerCpu;
}
