/** The LevelDB database itself: open in one process at a time, never recreated over a damaged one. */
import { readdir } from "node:fs/promises";
import path from "node:path";

import { Level } from "level";

import { conflict, errnoOf, messageOf, systemError } from "../../common/errors.ts";
import { makeDirectories } from "../../common/make-directories.ts";

export type Database = Level<string, Uint8Array>;

/** An operation of a batch. */
export type Operation =
  | { readonly type: "put"; readonly key: string; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: string };

/** Encodings of keys and values. */
export const databaseOptions = { keyEncoding: "utf8", valueEncoding: "view" } as const;

/** Files that LevelDB leaves after failing to open a missing database, or to create one without space. */
const notYetDatabase: ReadonlySet<string> = new Set([
  ...["LOCK", "LOG", "LOG.old"],
  ...["MANIFEST-000001", "000001.dbtmp"],
]);

/**
 * Opens the database `db` in a state directory, and creates both if missing.
 *
 * @throws conflict if another process has it open; system if it is damaged, or the disk is full ({@link refusalIn})
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
    // LevelDB would create an empty database in place of one that lost its CURRENT file.
    createIfMissing: isNew,
  });
  try {
    await database.open();
  } catch (error) {
    throw openError(stateDirectory, error);
  }
  return database;
}

/** Whether a directory's files are those of a database not created yet. */
export function isNotYetDatabase(names: readonly string[]): boolean {
  return names.every((name) => notYetDatabase.has(name));
}

/** Path of the database of a state directory. */
export function locationOf(stateDirectory: string): string {
  return path.join(stateDirectory, "db");
}

/** Reasons why an intact database takes no writes: no space left, or a read-only file system. */
export type Refusal = "full" | "read-only";

/** The reason for a failure to open or write a database; undefined for any other failure. */
export function refusalIn(error: unknown): Refusal | undefined {
  // LevelDB reports no errno, only the C library's message; Node reports one.
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

/** Whether a database failed to open because its files are inconsistent. */
export function isCorruption(error: unknown): boolean {
  return error instanceof Error && (errnoOf(error) === "LEVEL_CORRUPTION" || isCorruption(error.cause));
}

/** The error for a user whose change cannot be saved, in Docker's words. */
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
    return conflict(
      `state directory ${stateDirectory} is in use by another sockerless backend, or by \`sockerless check --repair\``,
      error,
    );
  }
  if (refusalIn(cause) !== undefined) {
    return refusedError(stateDirectory, cause);
  }
  return damaged(stateDirectory, messageOf(cause), error);
}

/** The error for a database with unreadable content. */
export function damaged(stateDirectory: string, reason: string, cause?: unknown): Error {
  return systemError(
    `the database in state directory ${stateDirectory} is damaged: ${reason}; it is left as it is: ` +
      `\`sockerless check --repair --state-dir ${stateDirectory}\` mends what can be mended`,
    cause,
  );
}
