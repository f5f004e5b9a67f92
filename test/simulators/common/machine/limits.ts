/** Limits that the machine cannot give as a definition asks for them: it gives the nearest ones. */
import { readFileSync } from "node:fs";
import { totalmem } from "node:os";

/** A resource limit by its name in a definition: `nofile`, `nproc`, … */
export interface Ulimit {
  readonly name: string;
  readonly soft: number;
  readonly hard: number;
}

/** Bytes of memory. */
export function memoryLimit(bytes: number): number {
  return Math.min(bytes, totalmem());
}

/** A resource limit; a process without CAP_SYS_RESOURCE cannot give more than it has itself. */
export function givenUlimit({ name, soft, hard }: Ulimit): Ulimit {
  const given = Math.min(unlimited(hard), mostOf(name));
  return { name, soft: Math.min(unlimited(soft), given), hard: given };
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
