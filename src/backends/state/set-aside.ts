/**
 * Copies of databases found damaged, at `set-aside/<time>` in the state directory, as LevelDB drops what fails its
 * checks. While there is a copy, nothing is deleted for being unknown to the state (docs/formats.md).
 */
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";

import { messageOf, unlessMissing } from "../../common/errors.ts";
import { damaged, locationOf } from "./database.ts";
import type { Loss } from "./damage.ts";
import { isDiskError, readLeft } from "./left-content.ts";

const recordName = "losses.json";
const recordVersion = 1;
/** Name prefix of anything that is not a complete copy. */
const hidden = ".";
const unfinished = `${hidden}new`;

interface SetAsideRecord {
  readonly version: number;
  readonly losses: readonly Loss[];
}

/** The directory of the copies. */
export function setAsideIn(stateDirectory: string): string {
  return path.join(stateDirectory, "set-aside");
}

/**
 * Copies the database as it is.
 *
 * @returns the copy's directory
 * @throws system if it cannot be copied; leaves nothing behind then
 */
export async function copyDatabase(stateDirectory: string, losses: readonly Loss[]): Promise<string> {
  const directory = setAsideIn(stateDirectory);
  const begun = path.join(directory, unfinished);
  const copy = path.join(directory, new Date().toISOString().replaceAll(":", ""));
  const drop = (): Promise<void> => rm(begun, { recursive: true, force: true });
  await drop();
  try {
    await mkdir(begun, { recursive: true, mode: 0o700 });
    await copyFiles(locationOf(stateDirectory), path.join(begun, "db"));
    const record: SetAsideRecord = { version: recordVersion, losses };
    await writeFile(path.join(begun, recordName), JSON.stringify(record));
    await rename(begun, copy);
    return copy;
  } catch (error) {
    await drop();
    const files = losses.map(({ file }) => file).join(", ");
    throw damaged(stateDirectory, `${files}; no copy: ${messageOf(error)}`, error);
  }
}

/** Copies the files of a database but its lock, with zeros in place of what the disk has lost. @throws Node's error */
export async function copyFiles(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true, mode: 0o700 });
  for (const entry of (await readdir(from, { withFileTypes: true }).catch(unlessMissing)) ?? []) {
    if (entry.isDirectory() || entry.name === "LOCK") {
      continue;
    }
    const [file, copy] = [path.join(from, entry.name), path.join(to, entry.name)];
    await copyFile(file, copy).catch(async (error: unknown) => {
      if (!isDiskError(error)) {
        throw error;
      }
      await writeFile(copy, (await readLeft(file)).bytes);
    });
  }
}

/** Losses of the copied databases. A copy with an unreadable record counts as damaged. @throws Node's error */
export async function setAsideLosses(stateDirectory: string): Promise<readonly Loss[]> {
  const directory = setAsideIn(stateDirectory);
  const losses = (await namesIn(directory)).map(async (name): Promise<readonly Loss[]> => {
    const file = path.join(directory, name, recordName);
    try {
      return (JSON.parse(await readFile(file, "utf8")) as SetAsideRecord).losses;
    } catch {
      return [{ file, kind: "damaged", offset: 0 }];
    }
  });
  return (await Promise.all(losses)).flat();
}

/** Deletes the copies. @throws Node's error */
export async function deleteSetAside(stateDirectory: string): Promise<void> {
  await rm(setAsideIn(stateDirectory), { recursive: true, force: true });
}

async function namesIn(directory: string): Promise<readonly string[]> {
  const names = (await readdir(directory).catch(unlessMissing)) ?? [];
  return names.filter((name) => !name.startsWith(hidden));
}
