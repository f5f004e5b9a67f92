/**
 * Copies of databases that were not whole when they were read, `set-aside/<time>` in the state directory: LevelDB drops
 * what does not check. While there is one, nothing is deleted because the state does not know it (docs/formats.md).
 */
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";

import { errnoOf, messageOf } from "../../common/errors.ts";
import { damaged, locationOf } from "./database.ts";
import type { Loss } from "./damage.ts";

const recordName = "losses.json";
const recordVersion = 1;
/** Begins names of what is no copy, or not yet one. */
const hidden = ".";
const unfinished = `${hidden}new`;

interface SetAsideRecord {
  readonly version: number;
  readonly losses: readonly Loss[];
}

/** Directory of what was set aside. */
export function setAsideIn(stateDirectory: string): string {
  return path.join(stateDirectory, "set-aside");
}

/**
 * Copies the database as it is.
 *
 * @returns the copy's directory
 * @throws system: it cannot be copied; nothing is left then
 */
export async function copyDatabase(stateDirectory: string, losses: readonly Loss[]): Promise<string> {
  const directory = setAsideIn(stateDirectory);
  const begun = path.join(directory, unfinished);
  const copy = path.join(directory, new Date().toISOString().replaceAll(":", ""));
  const drop = (): Promise<void> => rm(begun, { recursive: true, force: true });
  await drop();
  try {
    await mkdir(begun, { recursive: true, mode: 0o700 });
    await cp(locationOf(stateDirectory), path.join(begun, "db"), {
      recursive: true,
      filter: (name) => path.basename(name) !== "LOCK",
    });
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

/** Losses of the databases that the copies are of. A copy whose record cannot be read counts as damaged. @throws Node's error */
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
  try {
    return (await readdir(directory)).filter((name) => !name.startsWith(hidden));
  } catch (error) {
    if (errnoOf(error) === "ENOENT") {
      return [];
    }
    throw error;
  }
}
