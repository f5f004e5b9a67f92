import { readdirSync, readFileSync } from "node:fs";

interface Process {
  readonly pid: string;
  readonly parent: string;
  readonly commandLine: string;
}

/** A daemon: its first process, and the directory that all of its files are in. */
export interface MeasuredDaemon {
  readonly pid: number;
  readonly directory: string;
}

/** Shims are no descendants of the daemon, and name a file or a socket of its directory on their command lines. */
const shim = /sockerless-agent shim|containerd-shim/;
/**
 * Command lines of processes that are no part of a container. Processes that give themselves a title hide
 * their command lines: hence the tree.
 */
const ofDaemon = /node|sockerless|containerd|dockerd/;

/**
 * Proportional set size, in MB, of the daemon's processes, their descendants, and the shims, without the containers'
 * own: shared pages are counted once.
 */
export function memoryOf(daemon: MeasuredDaemon): number {
  return processesOf(daemon).reduce((sum, pid) => sum + proportionalKilobytes(pid), 0) / 1024;
}

/** Memory in MB that belongs to the daemon's processes alone, without code and files: nobody else's processes change it. */
export function anonymousMemoryOf(daemon: MeasuredDaemon): number {
  return processesOf(daemon).reduce((sum, pid) => sum + proportionalKilobytes(pid, "Pss_Anon"), 0) / 1024;
}

/** Processor time that the daemon's processes have used so far, in milliseconds; the clock ticks every 10. */
export function processorMsOf(daemon: MeasuredDaemon): number {
  return processesOf(daemon).reduce((sum, pid) => sum + processorTicks(pid), 0) * 10;
}

/** The daemon's processes, their descendants, and the shims. */
function processesOf(daemon: MeasuredDaemon): string[] {
  const processes = readdirSync("/proc").flatMap(processOf);
  const counted = new Set([String(daemon.pid)]);
  for (const { pid, commandLine } of processes) {
    if (shim.test(commandLine) && commandLine.includes(daemon.directory)) {
      counted.add(pid);
    }
  }
  for (let grown = true; grown; ) {
    const more = processes.filter(
      (each) => counted.has(each.parent) && !counted.has(each.pid) && ofDaemon.test(each.commandLine),
    );
    for (const { pid } of more) {
      counted.add(pid);
    }
    grown = more.length > 0;
  }
  return [...counted];
}

function processOf(pid: string): Process[] {
  try {
    const parent = /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "";
    return [{ pid, parent, commandLine: readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ") }];
  } catch {
    return []; // no process, or it has just ended
  }
}

function proportionalKilobytes(pid: string, kind: "Pss" | "Pss_Anon" = "Pss"): number {
  try {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    return Number(new RegExp(`^${kind}:\\s+(\\d+)`, "m").exec(rollup)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

function processorTicks(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [user = "0", system = "0"] = stat
      .slice(stat.lastIndexOf(")") + 2)
      .split(" ")
      .slice(11, 13);
    return Number(user) + Number(system);
  } catch {
    return 0;
  }
}
