/** The sizes that Fargate has. */

const gib = 1024;

/** CPU units → MiB of memory, from, to, step. */
const memoryByCpu: Readonly<Record<number, readonly [from: number, to: number, step: number]>> = {
  512: [gib, 4 * gib, gib],
  1024: [2 * gib, 8 * gib, gib],
  2048: [4 * gib, 16 * gib, gib],
  4096: [8 * gib, 30 * gib, gib],
  8192: [16 * gib, 60 * gib, 4 * gib],
  16384: [32 * gib, 120 * gib, 8 * gib],
};

/** Whether Fargate runs tasks of so many CPU units and MiB. */
export function isFargateSize(cpu: number, memory: number): boolean {
  if (cpu === 256) {
    return [gib / 2, gib, 2 * gib].includes(memory);
  }
  const [from, to, step] = memoryByCpu[cpu] ?? [0, -1, 1];
  return memory >= from && memory <= to && memory % step === 0;
}

/** CPU units of a task definition or an override: a number, or `0.5 vCPU`; undefined for anything else. */
export function cpuUnits(text: string): number | undefined {
  const vcpus = /^(\d+(?:\.\d+)?) ?vCPU$/i.exec(text)?.[1];
  return vcpus === undefined ? wholeNumber(text) : Number(vcpus) * 1024;
}

/** MiB of a task definition or an override: a number, or `2 GB`; undefined for anything else. */
export function memoryMib(text: string): number | undefined {
  const gigabytes = /^(\d+(?:\.\d+)?) ?GB$/i.exec(text)?.[1];
  return gigabytes === undefined ? wholeNumber(text) : Number(gigabytes) * gib;
}

function wholeNumber(text: string): number | undefined {
  return /^\d+$/.test(text) ? Number(text) : undefined;
}
