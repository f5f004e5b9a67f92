/** Removes the directories and control groups of simulators whose process was killed; the rest has gone with them. */
import { readFileSync, readlinkSync } from "node:fs";
import { readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { removeCgroup } from "./cgroups.ts";

/** The file that names the process to which a simulator's directory belongs. */
const ownerFile = "machine-owner";

/** The control group of the simulator with this directory. */
export function cgroupOf(directory: string): string {
  return `/${path.basename(directory)}`;
}

/** Marks a directory as this process's, and removes the directories of its kind whose processes are gone. */
export async function claimDirectory(directory: string): Promise<void> {
  await writeFile(path.join(directory, ownerFile), identity(process.pid) ?? "");
  const parent = path.dirname(directory);
  const prefix = path.basename(directory).replace(/[^-]*$/, "");
  const names = await readdir(parent);
  const alike = names.filter((name) => name.startsWith(prefix)).map((name) => path.join(parent, name));
  await Promise.all(alike.filter(isAbandoned).map(removeLeftovers));
}

/**
 * Removes a simulator's leftovers. Busy ones are left to the next sweep: its processes may still be ending, and other
 * simulators that start now sweep too.
 */
async function removeLeftovers(directory: string): Promise<void> {
  try {
    await removeCgroup(cgroupOf(directory));
    const names = await readdir(directory);
    // The file that names the owner goes last, so that a later sweep can judge the rest.
    for (const name of names.filter((each) => each !== ownerFile)) {
      await rm(path.join(directory, name), { recursive: true, force: true });
    }
    await rm(directory, { recursive: true, force: true });
  } catch (error) {
    if (!/^(EBUSY|ENOTEMPTY|ENOENT)$/.test((error as NodeJS.ErrnoException).code ?? "")) {
      throw error;
    }
  }
}

function isAbandoned(directory: string): boolean {
  try {
    const owner = readFileSync(path.join(directory, ownerFile), "utf8");
    const [, namespace, pid] = /^(pid:\[\d+\]) (\d+) \d+$/.exec(owner) ?? [];
    // A mark by another version, or by a process of another PID namespace, cannot be judged from here.
    return pid !== undefined && namespace === pidNamespace() && identity(Number(pid)) !== owner;
  } catch {
    return false; // not claimed yet
  }
}

/** A process's number and when it started: the number alone may be another's later. */
function identity(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The 22nd field; the second, in parentheses, may hold anything.
    const startTime = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    return `${pidNamespace()} ${pid} ${startTime}`;
  } catch {
    return undefined;
  }
}

function pidNamespace(): string {
  return readlinkSync("/proc/self/ns/pid");
}
