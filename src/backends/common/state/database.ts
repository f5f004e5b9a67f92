/** The LevelDB database itself: opened by one process at a time, never made anew over one that is damaged. */
import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";

import { Level } from "level";

import { conflict, errnoOf, messageOf, systemError } from "../../../common/errors.ts";

/** Keys and values as the database has them. */
export type Database = Level<string, Uint8Array>;

/** One operation of a batch. */
export type Operation =
  | { readonly type: "put"; readonly key: string; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: string };

/** What LevelDB leaves behind when it fails to open a database that does not exist. */
const notYetDatabase: ReadonlySet<string> = new Set(["LOCK", "LOG", "LOG.old"]);

/**
 * Opens the database `db` in a state directory and makes both where they do not exist.
 *
 * @throws conflict: another process has it open; system: it is damaged or cannot be read
 */
export async function openDatabase(stateDirectory: string): Promise<Database> {
  const location = path.join(stateDirectory, "db");
  try {
    await mkdir(location, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw systemError(`cannot use state directory ${stateDirectory}: ${messageOf(error)}`, error);
  }
  const isNew = (await readdir(location)).every((name) => notYetDatabase.has(name));
  const database: Database = new Level<string, Uint8Array>(location, {
    keyEncoding: "utf8",
    valueEncoding: "view",
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

function openError(stateDirectory: string, error: unknown): Error {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  if (errnoOf(cause) === "LEVEL_LOCKED") {
    return conflict(`state directory ${stateDirectory} is in use by another sockerless backend`, error);
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
