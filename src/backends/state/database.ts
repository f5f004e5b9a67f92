/** The LevelDB database itself: opened by one process at a time, never made anew over one that is damaged. */
import { readdir } from "node:fs/promises";
import path from "node:path";

import { Level } from "level";

import { conflict, errnoOf, messageOf, systemError } from "../../common/errors.ts";
import { makeDirectories } from "../../common/make-directories.ts";

/** Keys and values as the database has them. */
export type Database = Level<string, Uint8Array>;

/** One operation of a batch. */
export type Operation =
  | { readonly type: "put"; readonly key: string; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: string };

/** How keys and values are encoded. */
export const databaseOptions = { keyEncoding: "utf8", valueEncoding: "view" } as const;

/**
 * Files that LevelDB leaves when it fails to open a database that does not exist, or has no room to make one.
 */
const notYetDatabase: ReadonlySet<string> = new Set([
  ...["LOCK", "LOG", "LOG.old"],
  ...["MANIFEST-000001", "000001.dbtmp"],
]);

/**
 * Opens the database `db` in a state directory and makes both where they do not exist.
 *
 * @throws conflict: another process has it open; system: it is damaged, or there is no room ({@link refusalIn})
 */
export async function openDatabase(stateDirectory: string): Promise<Database> {
  const location = locationOf(stateDirectory);
  try {
    await makeDirectories(location, 0o700);
  } catch (error) {
    throw systemError(`cannot use state directory ${stateDirectory}: ${messageOf(error)}`, error);
  }
  const isNew = isNotYetDatabase(await readdir(location));
  const database: Database = new Level<string, Uint8Array>(location, {
    ...databaseOptions,
    // LevelDB would make an empty database where one has lost its CURRENT file.
    createIfMissing: isNew,
  });
  try {
    await database.open();
  } catch (error) {
    throw openError(stateDirectory, error);
  }
  return database;
}

/** Whether files in its directory are those of a database that is still to be made. */
export function isNotYetDatabase(names: readonly string[]): boolean {
  return names.every((name) => notYetDatabase.has(name));
}

/** Path of the database of a state directory. */
export function locationOf(stateDirectory: string): string {
  return path.join(stateDirectory, "db");
}

/** Reasons why a whole database takes no writes: there is no room, or its file system is read-only. */
export type Refusal = "full" | "read-only";

/** Refusal behind a failure to open or write a database; undefined: something else is wrong. */
export function refusalIn(error: unknown): Refusal | undefined {
  // LevelDB tells no error number, only the C library's words; Node gives its own.
  for (let each = error; each instanceof Error; each = each.cause) {
    if (/no space left on device|disk quota exceeded|ENOSPC|EDQUOT/i.test(each.message)) {
      return "full";
    }
    if (/read-only file system|EROFS/i.test(each.message)) {
      return "read-only";
    }
  }
  return undefined;
}

/** Whether a database failed to open since its files do not fit each other. */
export function isCorruption(error: unknown): boolean {
  return error instanceof Error && (errnoOf(error) === "LEVEL_CORRUPTION" || isCorruption(error.cause));
}

/** The error for a user whose change cannot be kept, in the words that Docker has for it. */
export function refusedError(stateDirectory: string, cause: unknown): Error {
  const words = {
    full: "no space left on device",
    "read-only": "read-only file system",
    other: messageOf(cause),
  }[refusalIn(cause) ?? "other"];
  return systemError(`write ${stateDirectory}: ${words}`, cause);
}

/** The error for a user whose database cannot be opened. */
export function openError(stateDirectory: string, error: unknown): Error {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  if (errnoOf(cause) === "LEVEL_LOCKED") {
    return conflict(`state directory ${stateDirectory} is in use by another sockerless backend`, error);
  }
  if (refusalIn(cause) !== undefined) {
    return refusedError(stateDirectory, cause);
  }
  return damaged(stateDirectory, messageOf(cause), error);
}

/** The error that reports a database which cannot be read as what it should be. */
export function damaged(stateDirectory: string, reason: string, cause?: unknown): Error {
  return systemError(
    `the database in state directory ${stateDirectory} is damaged: ${reason}; it is left as it is`,
    cause,
  );
}
