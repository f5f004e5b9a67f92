/** What the machine cannot give as a definition asks for it: the nearest that it can, and a note of it. */
import { readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";

/** A resource limit by its name in a definition: `nofile`, `nproc`, … */
export interface Ulimit {
  readonly name: string;
  readonly soft: number;
  readonly hard: number;
}

/** A limit that the machine made smaller. */
export interface Clamped {
  readonly container: string;
  readonly limit: string;
  readonly asked: number;
  readonly given: number;
}

/** Limits of one task on this machine. */
export class Limits {
  readonly clamped: Clamped[] = [];

  /** Bytes of memory. */
  memory(container: string, bytes: number): number {
    return this.#atMost(container, "memory", bytes, totalmem());
  }

  /** CPUs of 1,024 units each. */
  cpus(container: string, units: number): number {
    return this.#atMost(container, "cpu", units / 1024, availableParallelism());
  }

  /** A task may have no more open files than the machine lets any process have. */
  ulimit(container: string, { name, soft, hard }: Ulimit): Ulimit {
    if (name !== "nofile") {
      return { name, soft: unlimited(soft), hard: unlimited(hard) };
    }
    const most = Number(readFileSync("/proc/sys/fs/nr_open", "utf8"));
    const given = this.#atMost(container, name, hard < 0 ? most : hard, most);
    return { name, soft: Math.min(soft < 0 ? given : soft, given), hard: given };
  }

  #atMost(container: string, limit: string, asked: number, most: number): number {
    if (asked <= most) {
      return asked;
    }
    this.clamped.push({ container, limit, asked, given: most });
    return most;
  }
}

/** -1 in a definition is RLIM_INFINITY; JSON numbers hold it nearly, and the runtime reads it so. */
function unlimited(value: number): number {
  return value < 0 ? Number.MAX_SAFE_INTEGER : value;
}
