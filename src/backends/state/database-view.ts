/**
 * Reads a database where nothing can be written, on a full or read-only file system, where LevelDB cannot open it, as
 * opening writes. The view is another directory, in memory if there is such a file system. The tables, which never
 * change, are symbolic links; so is the lock, which keeps other backends out while the view is open.
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

/** A view; after `forgetFiles`, which removes its directory, it can no longer be read, but still holds the lock. */
export interface DatabaseView {
  readonly database: Database;
  forgetFiles(): Promise<void>;
}

/**
 * Opens a view of the database of a state directory.
 *
 * @returns undefined if there is no database yet
 * @throws as `openDatabase`; Node's error if no other directory has space either
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

/** @param lock absent if no process can take it, or it cannot be taken */
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

/** Whether the view's directory is missing or full, so that another may do. */
function isOfDirectory(error: unknown): boolean {
  return refusalIn(error) !== undefined || /ENOENT|EACCES/.test(String(error));
}
