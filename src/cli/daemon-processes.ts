/**
 * Daemons as the kernel shows them. No file names them: such a file outlives a daemon that was killed, and its number is
 * another process's then. A daemon has its title and its state directory open (daemon-mark.ts).
 */
import { readdirSync, readFileSync, type Stats, statSync } from "node:fs";

import { errnoOf, fromFileError, messageOf } from "../common/errors.ts";
import { daemonTitle, endingDaemonTitle } from "./daemon-mark.ts";

/** A supervisor. */
export interface DaemonProcess {
  readonly pid: number;
  /** Its start, in ticks since the machine's: a later process of the same ID has another. */
  readonly startedAt: string;
  /** Its effective user ID. */
  readonly uid: number;
  /** True if it was asked to end. */
  readonly isEnding: boolean;
}

/** A state directory, or undefined where there is none. @throws SockerlessError: it cannot be looked at */
export function stateDirectoryOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") {
      return undefined;
    }
    throw fromFileError(error, `cannot look at state directory ${path}: ${messageOf(error)}`);
  }
}

/** Daemons that have a state directory, of those whose descriptors this user may see: his own, and of root's all. */
export function findDaemons(stateDirectory: Stats): DaemonProcess[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => daemonAt(Number(name), stateDirectory) ?? []);
}

/** True if it is there, and more than what is left of a process that nobody has waited for. */
export function isAlive({ pid, startedAt }: Pick<DaemonProcess, "pid" | "startedAt">): boolean {
  return startOf(pid) === startedAt;
}

function daemonAt(pid: number, stateDirectory: Stats): DaemonProcess | undefined {
  // Read before all else: what follows is true of the process with this start as long as that is alive.
  const startedAt = startOf(pid);
  const title = readOrNothing(`/proc/${pid}/cmdline`).split("\0", 1)[0];
  const isEnding = title === endingDaemonTitle;
  if (title !== daemonTitle && !isEnding) {
    return undefined;
  }
  const uid = statOrNothing(`/proc/${pid}`)?.uid;
  return startedAt !== undefined && uid !== undefined && hasOpen(pid, stateDirectory)
    ? { pid, startedAt, uid, isEnding }
    : undefined;
}

/** The start of a process as its `stat` has it, in which its name may have spaces and parentheses. */
function startOf(pid: number): string | undefined {
  const stat = readOrNothing(`/proc/${pid}/stat`);
  const [state, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return state === "Z" || state === "X" ? undefined : rest[18];
}

function hasOpen(pid: number, { dev, ino }: Stats): boolean {
  let descriptors: string[];
  try {
    descriptors = readdirSync(`/proc/${pid}/fd`);
  } catch {
    return false; // It has ended, or is another user's.
  }
  return descriptors.some((name) => {
    const file = statOrNothing(`/proc/${pid}/fd/${name}`);
    return file?.dev === dev && file.ino === ino;
  });
}

/** A process may end while it is looked at. */
function statOrNothing(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
