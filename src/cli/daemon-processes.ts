/**
 * Finds daemons in `/proc`. A PID file would not do: it outlives a daemon that was killed, and its number may then
 * belong to another process. A daemon is known by its title and by its open state directory (daemon-mark.ts).
 */
import { type BigIntStats, lstatSync, readdirSync, readlinkSync, statSync } from "node:fs";

import { commandLineOf } from "../common/command-line.ts";
import { errnoOf, fromFileError, messageOf } from "../common/errors.ts";
import { readOrEmpty } from "../common/read-or-empty.ts";
import { daemonTitle, endingDaemonTitle } from "./daemon-mark.ts";

/** A process with a supervisor's title. */
export interface DaemonProcess {
  readonly pid: number;
  /** Start time in clock ticks since boot; tells apart processes that had the same PID. */
  readonly startedAt: string;
  /** Real, effective, saved and file system user IDs; those of a setuid program differ. */
  readonly uids: readonly number[];
  /** True if it has been asked to end. */
  readonly isEnding: boolean;
  /** False if its open files are hidden from this user, so that it may belong to another directory. */
  readonly isKnown: boolean;
}

/** The state directory; undefined if it does not exist. @throws SockerlessError if it cannot be examined */
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

/** Daemons that have the state directory open, or may have it open. */
export function findDaemons(stateDirectory: BigIntStats): DaemonProcess[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => daemonAt(Number(name), stateDirectory) ?? []);
}

/** True if the process exists and is not a zombie. */
export function isAlive({ pid, startedAt }: Pick<DaemonProcess, "pid" | "startedAt">): boolean {
  return startTimeOf(pid) === startedAt;
}

function daemonAt(pid: number, stateDirectory: BigIntStats): DaemonProcess | undefined {
  // Read first: everything read below belongs to the process with this start time as long as it is alive.
  const startedAt = startTimeOf(pid);
  const title = titleOf(pid);
  if (startedAt === undefined || (title !== daemonTitle && title !== endingDaemonTitle)) {
    return undefined;
  }
  const uids = uidsOf(pid);
  const isOpen = hasOpen(pid, stateDirectory);
  if (uids === undefined || isOpen === false || titleOf(pid) !== title) {
    return undefined; // Also if it has ended meanwhile: its title is then gone, and its files are hidden.
  }
  return { pid, startedAt, uids, isEnding: title === endingDaemonTitle, isKnown: isOpen === true };
}

function titleOf(pid: number): string | undefined {
  return commandLineOf(pid).split("\0", 1)[0];
}

/**
 * Start time from `/proc/PID/stat`, where the process name may contain spaces and parentheses; undefined for a zombie.
 */
function startTimeOf(pid: number): string | undefined {
  const stat = readOrEmpty(`/proc/${pid}/stat`);
  const [state, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return state === "Z" || state === "X" ? undefined : rest[18];
}

function uidsOf(pid: number): number[] | undefined {
  const uids = /^Uid:\t(.+)$/m.exec(readOrEmpty(`/proc/${pid}/status`))?.[1];
  return uids?.split("\t").map(Number);
}

/**
 * True if the process has the file open for reading, not just as a path (`O_PATH`); undefined if its files are hidden.
 */
function hasOpen(pid: number, file: BigIntStats): boolean | undefined {
  const directory = `/proc/${pid}/fd`;
  try {
    return readdirSync(directory).some((name) => refersTo(`${directory}/${name}`, file));
  } catch {
    return undefined;
  }
}

/** @throws if the process's files are hidden */
function refersTo(descriptor: string, { dev, ino }: BigIntStats): boolean {
  try {
    const file = statSync(descriptor, { bigint: true, throwIfNoEntry: false });
    return file?.dev === dev && file.ino === ino && isReadable(descriptor);
  } catch {
    // A network file system may refuse root: the link can then be read, so the file is another one.
    readlinkSync(descriptor);
    return false;
  }
}

/** Reads the link's mode, which shows how the descriptor was opened. */
function isReadable(descriptor: string): boolean {
  return ((lstatSync(descriptor, { throwIfNoEntry: false })?.mode ?? 0) & 0o400) !== 0;
}
