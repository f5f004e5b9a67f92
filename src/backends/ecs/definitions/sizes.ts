/** Task sizes on Fargate. */
import { invalid } from "../../../common/errors.ts";
import type { Resources } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { askedCpus } from "../../cloud/ready-made/asked-cpus.ts";

/** A task's size, in AWS's units. */
export interface TaskSize {
  /** 1,024 are one vCPU. */
  readonly cpu: number;
  /** MiB. */
  readonly memory: number;
}

/** The size for a container without requested resources. */
export const smallestSize: TaskSize = { cpu: 256, memory: 512 };

const gib = 1024;
const cpuUnits = 1024;

interface CpuSize {
  readonly cpu: number;
  /** MiB, ascending. */
  readonly memories: readonly number[];
}

/** AWS's table, in ascending order. */
const sizes: readonly CpuSize[] = [
  { cpu: 256, memories: [512, gib, 2 * gib] },
  { cpu: 512, memories: memories(1, 4, 1) },
  { cpu: 1024, memories: memories(2, 8, 1) },
  { cpu: 2048, memories: memories(4, 16, 1) },
  { cpu: 4096, memories: memories(8, 30, 1) },
  { cpu: 8192, memories: memories(16, 60, 4) },
  { cpu: 16384, memories: memories(32, 120, 8) },
];

function memories(fromGib: number, toGib: number, stepGib: number): readonly number[] {
  const count = Math.floor((toGib - fromGib) / stepGib) + 1;
  return Array.from({ length: count }, (_, index) => (fromGib + index * stepGib) * gib);
}

/**
 * The smallest size with the resources that a container requests: `--cpus` or a CPU quota, else `--cpu-shares` (1,024
 * are one vCPU), and `--memory`.
 *
 * @throws invalid: the request exceeds the largest size
 */
export function taskSizeOf(resources: Resources | undefined): TaskSize {
  const cpu = Math.ceil(askedCpus(resources) * cpuUnits);
  const memory = Math.ceil(Number(resources?.memory ?? 0n) / 1024 ** 2);
  for (const size of sizes) {
    const fitting = size.cpu < cpu ? undefined : size.memories.find((each) => each >= memory);
    if (fitting !== undefined) {
      return { cpu: size.cpu, memory: fitting };
    }
  }
  const largest = sizes.at(-1);
  throw invalid(
    `a task has at most ${(largest?.cpu ?? 0) / cpuUnits} vCPU and ${(largest?.memories.at(-1) ?? 0) / gib} GiB of memory: ` +
      `${cpu / cpuUnits} vCPU and ${memory} MiB were asked for`,
  );
}
