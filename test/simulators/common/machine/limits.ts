/** Limits that the machine cannot give as a definition asks for them: it gives the nearest ones, and notes that. */
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

  /** A resource limit; a process without CAP_SYS_RESOURCE cannot give more than it has itself. */
  ulimit(container: string, { name, soft, hard }: Ulimit): Ulimit {
    const most = mostOf(name);
    const given = this.#atMost(container, name, unlimited(hard), most);
    return { name, soft: Math.min(unlimited(soft), given), hard: given };
  }

  #atMost(container: string, limit: string, asked: number, most: number): number {
    if (asked <= most) {
      return asked;
    }
    this.clamped.push({ container, limit, asked, given: most });
    return most;
  }
}

/** Lines of `/proc/self/limits` by the limits' names in definitions. */
const lines: Readonly<Record<string, string>> = {
  core: "Max core file size",
  cpu: "Max cpu time",
  data: "Max data size",
  fsize: "Max file size",
  locks: "Max file locks",
  memlock: "Max locked memory",
  msgqueue: "Max msgqueue size",
  nice: "Max nice priority",
  nofile: "Max open files",
  nproc: "Max processes",
  rss: "Max resident set",
  rtprio: "Max realtime priority",
  rttime: "Max realtime timeout",
  sigpending: "Max pending signals",
  stack: "Max stack size",
};

/** CAP_SYS_RESOURCE, as a bit of the masks in `/proc/self/status`. */
const sysResource = 1n << 24n;

/** As near to RLIM_INFINITY as a number of JSON comes. */
const infinity = Number.MAX_SAFE_INTEGER;

function mostOf(name: string): number {
  const status = readFileSync("/proc/self/status", "utf8");
  const capabilities = BigInt(`0x${/^CapEff:\s*(\S+)$/m.exec(status)?.[1] ?? "0"}`);
  if ((capabilities & sysResource) !== 0n) {
    return name === "nofile" ? Number(readFileSync("/proc/sys/fs/nr_open", "utf8")) : infinity;
  }
  const line = readFileSync("/proc/self/limits", "utf8")
    .split("\n")
    .find((each) => each.startsWith(lines[name] ?? "?"));
  const hard = /\s+\S+\s+(\S+)/.exec(line?.slice(lines[name]?.length) ?? "")?.[1];
  return hard === undefined || hard === "unlimited" ? infinity : Number(hard);
}

/** -1 in a definition is RLIM_INFINITY. */
function unlimited(value: number): number {
  return value < 0 ? infinity : value;
}
