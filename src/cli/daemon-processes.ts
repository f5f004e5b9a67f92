/**
 * Daemons as the kernel shows them. No file names them: such a file outlives a daemon that was killed, and its number is
 * another process's then. A daemon has its title and its state directory open (daemon-mark.ts).
 */
import { type BigIntStats, lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";

import { errnoOf, fromFileError, messageOf } from "../common/errors.ts";
import { daemonTitle, endingDaemonTitle } from "./daemon-mark.ts";

/** A process that has a supervisor's title. */
export interface DaemonProcess {
  readonly pid: number;
  /** Its start, in ticks since the machine's: a later process of the same ID has another. */
  readonly startedAt: string;
  /** Its user IDs: real, effective, saved, and that for files. A setuid program is of several users. */
  readonly uids: readonly number[];
  /** True if it was asked to end. */
  readonly isEnding: boolean;
  /** False: this user is not shown what it has open, so that it may be another directory's. */
  readonly isKnown: boolean;
}

/** A state directory, or undefined where there is none. @throws SockerlessError: it cannot be looked at */
export function stateDirectoryOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch (error) {
    if (errnoOf(error) === "ENOENT") {
      return undefined;
    }
    throw fromFileError(error, `cannot look at state directory ${path}: ${messageOf(error)}`);
  }
}

/** Daemons that have a state directory, or may have it. */
export function findDaemons(stateDirectory: BigIntStats): DaemonProcess[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => daemonAt(Number(name), stateDirectory) ?? []);
}

/** True if it is there, and more than what is left of a process that nobody has waited for. */
export function isAlive({ pid, startedAt }: Pick<DaemonProcess, "pid" | "startedAt">): boolean {
  return startOf(pid) === startedAt;
}

function daemonAt(pid: number, stateDirectory: BigIntStats): DaemonProcess | undefined {
  // Read before all else: what follows is true of the process with this start as long as that is alive.
  const startedAt = startOf(pid);
  const title = titleOf(pid);
  if (startedAt === undefined || (title !== daemonTitle && title !== endingDaemonTitle)) {
    return undefined;
  }
  const uids = uidsOf(pid);
  const isOpen = hasOpen(pid, stateDirectory);
  if (uids === undefined || isOpen === false || titleOf(pid) !== title) {
    return undefined; // It may have ended meanwhile: then it has no title, and nothing of it is shown.
  }
  return { pid, startedAt, uids, isEnding: title === endingDaemonTitle, isKnown: isOpen === true };
}

function titleOf(pid: number): string | undefined {
  return readOrNothing(`/proc/${pid}/cmdline`).split("\0", 1)[0];
}

/** The start of a process as its `stat` has it, in which its name may have spaces and parentheses. */
function startOf(pid: number): string | undefined {
  const stat = readOrNothing(`/proc/${pid}/stat`);
  const [state, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return state === "Z" || state === "X" ? undefined : rest[18];
}

function uidsOf(pid: number): number[] | undefined {
  const uids = /^Uid:\t(.+)$/m.exec(readOrNothing(`/proc/${pid}/status`))?.[1];
  return uids?.split("\t").map(Number);
}

/** True if it has a file open for reading, which demands more than the passage through it; undefined: it is not shown. */
function hasOpen(pid: number, file: BigIntStats): boolean | undefined {
  const directory = `/proc/${pid}/fd`;
  try {
    return readdirSync(directory).some((name) => leadsTo(`${directory}/${name}`, file));
  } catch {
    return undefined;
  }
}

/** @throws where it is not shown */
function leadsTo(descriptor: string, { dev, ino }: BigIntStats): boolean {
  try {
    const file = statSync(descriptor, { bigint: true, throwIfNoEntry: false });
    return file?.dev === dev && file.ino === ino && isReadable(descriptor);
  } catch {
    // A network's file system may refuse root: then the link is shown, and leads to another file than one that is known.
    readlinkSync(descriptor);
    return false;
  }
}

/** Asks the mode of the link, which is how the descriptor was opened. */
function isReadable(descriptor: string): boolean {
  return ((lstatSync(descriptor, { throwIfNoEntry: false })?.mode ?? 0) & 0o400) !== 0;
}

/** A process may end while it is looked at. */
function readOrNothing(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
