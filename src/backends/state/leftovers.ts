/** Files in and beside a state directory that no backend reads, and what has become of them. */
import { readdir, rm, stat } from "node:fs/promises";
import path from "node:path";

import { errnoOf } from "../../common/errors.ts";
import { setAsideIn } from "./set-aside.ts";

/** A thing that no container needs, on the disk or in a cloud. */
export interface Remnant {
  /** `left`: it is somebody else's, or `reason` says who lets it go. */
  readonly outcome: "found" | "left" | "removed" | "not removed";
  /** `directory`, or the cloud's term. */
  readonly kind: string;
  /** Path, or ID in the cloud. */
  readonly id: string;
  /** Its purpose: `volume cache`. */
  readonly purpose: string;
  /** The instance that made it; absent for what is on the disk. */
  readonly instance?: string;
  /** Size on the disk. */
  readonly bytes?: number;
  /** The reason why it is still there. */
  readonly reason?: string;
}

/** Age from which a temporary file or directory counts as left by a command that was killed. */
export const abandonedMs = 24 * 3_600_000;

interface Leftover {
  readonly directory: string;
  readonly purpose: string;
  /** The way in which it goes; absent: it can be removed. */
  readonly keptBy?: string;
}

/**
 * Reports, and on request removes, what earlier upgrades, repairs, backups and restores have left.
 *
 * @param nowMs Unix time in milliseconds
 * @throws Node's error
 */
export async function collectLeftovers(
  stateDirectory: string,
  request: { readonly remove: boolean; readonly nowMs: number; readonly report: (remnant: Remnant) => void },
): Promise<void> {
  for (const { directory, purpose, keptBy } of await findLeftovers(stateDirectory, request.nowMs)) {
    const about = { kind: "directory", id: directory, purpose, bytes: await bytesBelow(directory) };
    if (keptBy !== undefined) {
      request.report({ outcome: "left", ...about, reason: keptBy });
    } else if (request.remove) {
      await rm(directory, { recursive: true, force: true });
      request.report({ outcome: "removed", ...about });
    } else {
      request.report({ outcome: "found", ...about });
    }
  }
}

async function findLeftovers(stateDirectory: string, nowMs: number): Promise<readonly Leftover[]> {
  const beside = path.dirname(path.resolve(stateDirectory));
  const restored = `${path.basename(stateDirectory)}.restore-`;
  const below = (directory: string, purpose: string, keptBy?: string): Promise<Leftover[]> =>
    directoriesIn(directory).then((found) =>
      found.map((each) => ({ directory: each, purpose, ...(keptBy === undefined ? {} : { keptBy }) })),
    );
  const abandoned = async (directory: string, prefix: string, purpose: string): Promise<Leftover[]> => {
    const found: Leftover[] = [];
    for (const each of await directoriesIn(directory)) {
      if (path.basename(each).startsWith(prefix) && nowMs - (await stat(each)).mtimeMs > abandonedMs) {
        found.push({ directory: each, purpose });
      }
    }
    return found;
  };
  const found = await Promise.all([
    below(path.join(stateDirectory, "before-upgrade"), "the database from before an upgrade"),
    below(path.join(stateDirectory, "damaged"), "damaged files that a repair has put aside"),
    below(
      setAsideIn(stateDirectory),
      "a database that was damaged",
      "`docker container prune` lets it go, with what it may know",
    ),
    abandoned(stateDirectory, ".backup-", "a backup that was not finished"),
    abandoned(beside, restored, "a restore that was not finished"),
  ]);
  return found.flat();
}

async function directoriesIn(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => path.join(directory, name))
      .toSorted();
  } catch (error) {
    // The directory above may be another user's: what cannot be listed there is not this user's to remove.
    if (["ENOENT", "EACCES"].includes(errnoOf(error) ?? "")) {
      return [];
    }
    throw error;
  }
}

async function bytesBelow(directory: string): Promise<number> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true });
  const sizes = entries
    .filter((entry) => entry.isFile())
    .map(async ({ parentPath, name }) => (await stat(path.join(parentPath, name))).size);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}
