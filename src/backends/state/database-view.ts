/**
 * Reads a database where nothing can be written, on a full or read-only file system; LevelDB cannot open it
 * there, since it writes when it opens one. The view is another directory, in memory where there is such a
 * file system. The tables, which never change, are symbolic links; so is the lock, which keeps every other
 * backend away as long as the view is open.
 */
import { copyFile, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import path from "node:path";

import { Level } from "level";

import { errnoOf } from "../../common/errors.ts";
import { scratchDirectories } from "../../common/scratch-directories.ts";
import { type Database, databaseOptions, openError, refusalIn, locationOf } from "./database.ts";

/** Names of the files that LevelDB appends to or replaces. */
const copied = /^(CURRENT|MANIFEST-\d+|\d+\.log)$/;
const linked = /^\d+\.(ldb|sst)$/;

/** A view; once `forgetFiles` has removed its directory, it holds the lock and can no longer be read. */
export interface DatabaseView {
  readonly database: Database;
  forgetFiles(): Promise<void>;
}

/**
 * Opens a view of the database of a state directory.
 *
 * @returns undefined: there is no database yet
 * @throws as `openDatabase`; Node's error where no other directory has room either
 */
export async function openView(stateDirectory: string): Promise<DatabaseView | undefined> {
  if (!(await readdir(locationOf(stateDirectory))).includes("CURRENT")) {
    return undefined;
  }
  let failure: unknown;
  for (const directory of scratchDirectories()) {
    try {
      return await openViewIn(directory, stateDirectory);
    } catch (error) {
      failure = error;
      if (!isOfDirectory(error)) {
        break;
      }
    }
  }
  throw failure;
}

async function openViewIn(directory: string, stateDirectory: string): Promise<DatabaseView> {
  const location = locationOf(stateDirectory);
  const view = await mkdtemp(path.join(directory, "sockerless-view-"));
  const forgetFiles = (): Promise<void> => rm(view, { recursive: true, force: true });
  try {
    const names = await readdir(location);
    for (const name of names) {
      const [from, to] = [path.join(location, name), path.join(view, name)];
      if (copied.test(name)) {
        await copyFile(from, to);
      } else if (linked.test(name)) {
        await symlink(from, to);
      }
    }
    const database = await openLocked(view, names.includes("LOCK") ? path.join(location, "LOCK") : undefined);
    return { database, forgetFiles };
  } catch (error) {
    await forgetFiles();
    throw errnoOf(error)?.startsWith("LEVEL_") === true ? openError(stateDirectory, error) : error;
  }
}

/** @param lock absent: nobody can have it, or it cannot be had */
async function openLocked(view: string, lock: string | undefined): Promise<Database> {
  if (lock !== undefined) {
    await symlink(lock, path.join(view, "LOCK"));
  }
  const database: Database = new Level<string, Uint8Array>(view, {
    ...databaseOptions,
    createIfMissing: false,
  });
  try {
    await database.open();
    return database;
  } catch (error) {
    if (lock === undefined || refusalIn(error) !== "read-only") {
      throw error;
    }
    await rm(path.join(view, "LOCK"));
    return openLocked(view, undefined);
  }
}

/** The directory for the view is not there or has no room; another may do. */
function isOfDirectory(error: unknown): boolean {
  return refusalIn(error) !== undefined || /ENOENT|EACCES/.test(String(error));
}
