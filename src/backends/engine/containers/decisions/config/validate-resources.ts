/** Validates limits on memory and processors, also against the machine; Docker's texts. */
import { invalid } from "../../../../../common/errors.ts";
import type { Resources } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import type { MachineFacts } from "../../../../driver/machine.ts";
import { cpusetFault, isAvailable, mostCharacters } from "./cpuset.ts";

const smallestMemory = 6n * 1024n * 1024n;
const nsPerCpu = 1_000_000_000n;

/**
 * Refuses invalid resource settings.
 *
 * @param machine the machine, or the cloud's largest
 * @param isUpdate whether missing settings stay as they are
 * @throws invalid
 */
export function validateResources(
  resources: Resources,
  { ncpu, memoryNodes }: Pick<MachineFacts, "ncpu" | "memoryNodes">,
  isUpdate: boolean = false,
): void {
  for (const [wrong, text] of [...memoryFaults(resources, isUpdate), ...cpuFaults(resources, ncpu)]) {
    if (wrong) {
      throw invalid(text);
    }
  }
  for (const [what, list] of [
    ["cpus", resources.cpusetCpus],
    ["mems", resources.cpusetMems],
  ] as const) {
    const fault = cpusetFault(list);
    if (fault !== undefined) {
      throw invalid(`Invalid value ${list.slice(0, mostCharacters)} for cpuset ${what}: ${fault}`);
    }
  }
  const { cpusetCpus, cpusetMems } = resources;
  const cpus = ncpu === 1 ? "0" : `0-${ncpu - 1}`;
  if (!isAvailable(cpusetCpus, cpus)) {
    throw invalid(`Requested CPUs are not available - requested ${cpusetCpus}, available: ${cpus}`);
  }
  if (memoryNodes !== undefined && !isAvailable(cpusetMems, memoryNodes)) {
    throw invalid(
      `Requested memory nodes are not available - requested ${cpusetMems}, available: ${memoryNodes}`,
    );
  }
}

type Fault = readonly [wrong: boolean, text: string];

function memoryFaults(resources: Resources, isUpdate: boolean): readonly Fault[] {
  const { memory, memorySwap, memoryReservation, memorySwappiness: swappiness = 0n } = resources;
  return [
    [memory !== 0n && memory < smallestMemory, "Minimum memory limit allowed is 6MB"],
    [
      memory > 0n && memorySwap > 0n && memorySwap < memory,
      "Minimum memoryswap limit should be larger than memory limit, see usage",
    ],
    [
      memory === 0n && memorySwap > 0n && !isUpdate,
      "You should always set the Memory limit when using Memoryswap limit, see usage",
    ],
    [
      swappiness < -1n || swappiness > 100n,
      `Invalid value: ${swappiness}, valid memory swappiness range is 0-100`,
    ],
    [
      memoryReservation > 0n && memoryReservation < smallestMemory,
      "Minimum memory reservation allowed is 6MB",
    ],
    [
      memory > 0n && memory < memoryReservation,
      "Minimum memory limit can not be less than memory reservation limit, see usage",
    ],
  ];
}

function cpuFaults(resources: Resources, ncpu: number): readonly Fault[] {
  const { nanoCpus, cpuPeriod, cpuQuota, cpuShares, blkioWeight } = resources;
  return [
    [nanoCpus > 0n && cpuPeriod > 0n, "Conflicting options: Nano CPUs and CPU Period cannot both be set"],
    [nanoCpus > 0n && cpuQuota > 0n, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"],
    [
      nanoCpus < 0n || nanoCpus > BigInt(ncpu) * nsPerCpu,
      `range of CPUs is from 0.01 to ${ncpu}.00, as there are only ${ncpu} CPUs available`,
    ],
    [cpuShares < 0n, `invalid CPU shares (${cpuShares}): value must be a positive integer`],
    [
      cpuPeriod !== 0n && (cpuPeriod < 1000n || cpuPeriod > 1_000_000n),
      "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
    ],
    [cpuQuota > 0n && cpuQuota < 1000n, "CPU cfs quota can not be less than 1ms (i.e. 1000)"],
    [blkioWeight > 0 && (blkioWeight < 10 || blkioWeight > 1000), "Range of blkio weight is from 10 to 1000"],
    [
      resources.ioMaximumBandwidth !== 0n,
      "invalid option: QoS maximum bandwidth configuration is not supported on linux",
    ],
    [
      resources.ioMaximumIops !== 0n,
      "invalid option: QoS maximum IOPs configuration is not supported on linux",
    ],
  ];
}
