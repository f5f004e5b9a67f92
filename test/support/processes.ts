/** The processes of a daemon, found in /proc: tests kill them, count them, and look at their memory. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { Daemon } from "./daemon.ts";
import { until } from "./until.ts";

/** A process of a daemon other than a shim. */
export type DaemonRole = "backend" | "builder" | "frontend" | "host" | "forwarder" | "terminator" | "dialer";

const commandOf: Readonly<Record<DaemonRole, RegExp>> = {
  backend: /^sockerless-backend\b/,
  builder: /^\S*\/sockerless-builder /,
  frontend: /^sockerless-frontend\b/,
  host: /^\S*sockerless-agent host /,
  forwarder: /^\S*sockerless-agent forwarder$/,
  terminator: /^\S*sockerless-agent tls-terminator$/,
  dialer: /^\S*sockerless-agent tls-dialer$/,
};

/** The roles whose processes are another's. */
const parentRole: Partial<Record<DaemonRole, DaemonRole>> = {
  host: "backend",
  forwarder: "frontend",
  terminator: "frontend",
  dialer: "backend",
};

/** Process ID of one of the daemon's processes; undefined while it does not run. */
export function findProcess(daemon: Daemon, role: DaemonRole): number | undefined {
  const owner = parentRole[role];
  const parent = owner === undefined ? daemon.pid : findProcess(daemon, owner);
  return processIds().find((pid) => parentOf(pid) === parent && commandOf[role].test(commandLineOf(pid)));
}

/** Process ID of one of the daemon's processes, once it runs and is another than the one given. */
export function processOf(daemon: Daemon, role: DaemonRole, otherThan?: number): Promise<number> {
  return until(() => {
    const pid = findProcess(daemon, role);
    return pid === otherThan ? undefined : pid;
  });
}

/** Kills one of the daemon's processes, and waits for its successor. @param meanwhile done once it is gone, with its sockets */
export async function killAndAwaitNext(
  daemon: Daemon,
  role: DaemonRole,
  meanwhile?: () => Promise<void> | void,
): Promise<void> {
  const pid = await processOf(daemon, role);
  process.kill(pid, "SIGKILL");
  await until(() => !existsSync(`/proc/${pid}`) || undefined); // A zombie's threads may still hold them.
  await meanwhile?.();
  await processOf(daemon, role, pid);
}

/** Process ID of a container's shim; undefined when it has none. */
export function findShim(daemon: Daemon, containerId: string): number | undefined {
  const spec = `${daemon.stateDir}/containers/${containerId}/shim.json`;
  return processIds().find((pid) => commandLineOf(pid).endsWith(`sockerless-agent shim --spec ${spec}`));
}

/** Processes whose command line, working directory or root lies in a directory. */
export function processesBelow(directory: string): string[] {
  return processIds()
    .filter((pid) => commandLineOf(pid).includes(directory) || linkOf(pid, "cwd").startsWith(directory))
    .map((pid) => `${pid} ${commandLineOf(pid)}`);
}

/** Control groups of each process that has this command line, as one text each. */
export function controlGroupsOf(commandLine: string): string[] {
  return processIds()
    .filter((pid) => commandLineOf(pid) === commandLine)
    .map((pid) => readOrNothing(`/proc/${pid}/cgroup`));
}

/** Resident memory in bytes, what processes share included; 0 of one that is gone. */
export function residentBytes(pid: number): number {
  return statusBytes(pid, /^VmRSS:\s+(\d+) kB/m);
}

/** The most resident memory in bytes that it ever had; 0 of one that is gone. */
export function peakBytes(pid: number): number {
  return statusBytes(pid, /^VmHWM:\s+(\d+) kB/m);
}

function statusBytes(pid: number, line: RegExp): number {
  return Number(line.exec(readOrNothing(`/proc/${pid}/status`))?.[1] ?? 0) * 1024;
}

/** True if a process is there and not a zombie. The ID of one that is gone may be another's, or a thread's. */
export function isAlive(pid: number): boolean {
  return startOf(pid) !== undefined;
}

/** One process, as against all that have its ID later. */
export class Life {
  readonly pid: number;
  readonly #startedAt: string | undefined;

  /** @param pid of a process that is there now */
  constructor(pid: number) {
    this.pid = pid;
    this.#startedAt = startOf(pid);
  }

  /** True if it is gone, or a zombie. */
  get isOver(): boolean {
    return this.#startedAt === undefined || startOf(this.pid) !== this.#startedAt;
  }

  /** Kills it, and no other. @returns false where it had ended */
  kill(): boolean {
    try {
      return !this.isOver && process.kill(this.pid, "SIGKILL");
    } catch {
      return false; // It has ended meanwhile.
    }
  }

  /** Tells what it is, and where each of its threads waits in the kernel. */
  toString(): string {
    const threads = isAlive(this.pid) ? readdirSync(`/proc/${this.pid}/task`) : [];
    const waits = threads.map((thread) => {
      const [name, wait, stack] = ["comm", "wchan", "stack"].map((file) =>
        readOrNothing(`/proc/${this.pid}/task/${thread}/${file}`).trim(),
      );
      return `  ${thread} ${name}: ${wait}\n${stack}`;
    });
    const status = readOrNothing(`/proc/${this.pid}/status`);
    return [`${this.pid} ${commandLineOf(this.pid)}`, status, ...waits].join("\n");
  }
}

/** The start of a process as its `stat` has it; undefined of a zombie, a thread, and where there is none. */
function startOf(pid: number): string | undefined {
  const stat = readOrNothing(`/proc/${pid}/stat`); // Its name may have spaces and parentheses.
  const [state, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const isProcess = readOrNothing(`/proc/${pid}/status`).includes(`\nTgid:\t${pid}\n`);
  return state === "Z" || state === "X" || !isProcess ? undefined : rest[18];
}

/** Processes that a process has started, or was left with. */
export function childrenOf(pid: number): number[] {
  return processIds().filter((child) => parentOf(child) === pid);
}

/** Those of all processes. */
export function processIds(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function parentOf(pid: number): number {
  return Number(/^PPid:\s+(\d+)/m.exec(readOrNothing(`/proc/${pid}/status`))?.[1] ?? 0);
}

/** Its arguments with spaces between; empty: it is gone, or the kernel's. */
export function commandLineOf(pid: number): string {
  return readOrNothing(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim();
}

/** Reads a file of a process, which may go while it is being looked at. */
export function readOrNothing(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** A process's open files, such as `socket:[4711]`, without those that it closes meanwhile. */
export function openFiles(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`)
    .map((descriptor) => linkOf(pid, `fd/${descriptor}`))
    .filter((target) => target !== "");
}

function linkOf(pid: number, name: string): string {
  try {
    return readlinkSync(`/proc/${pid}/${name}`);
  } catch {
    return "";
  }
}
