import { readdirSync, readFileSync } from "node:fs";

interface Process {
  readonly pid: string;
  readonly parent: string;
  readonly commandLine: string;
}

/**
 * Proportional set size, in MB, of every process whose command line holds the text, and of their descendants that are
 * not in a container: shared pages are counted once.
 */
export function memoryOf(commandPart: string): number {
  const processes = readdirSync("/proc").flatMap(processOf);
  const counted = new Set(
    processes.filter((each) => each.commandLine.includes(commandPart)).map((each) => each.pid),
  );
  for (let grown = true; grown; ) {
    const more = processes.filter(
      (each) => counted.has(each.parent) && !counted.has(each.pid) && isDaemon(each),
    );
    for (const { pid } of more) {
      counted.add(pid);
    }
    grown = more.length > 0;
  }
  return [...counted].reduce((sum, pid) => sum + proportionalKilobytes(pid), 0) / 1024;
}

/** The processes of containers are children of shims, and no part of the daemon. */
function isDaemon({ commandLine }: Process): boolean {
  return /node|sockerless|containerd|dockerd/.test(commandLine);
}

function processOf(pid: string): Process[] {
  try {
    const parent = /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "";
    return [{ pid, parent, commandLine: readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ") }];
  } catch {
    return []; // no process, or it has just ended
  }
}

function proportionalKilobytes(pid: string): number {
  try {
    return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
