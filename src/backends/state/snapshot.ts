/** Copies the database of a backend while that runs. */
import { copyFile, mkdir, readdir, readFile, rm } from "node:fs/promises";
import path from "node:path";

import { errnoOf, systemError } from "../../common/errors.ts";
import { findLosses } from "./damage.ts";
import { locationOf } from "./database.ts";

/** Names of the files that make a database, without its lock and the log for people. */
const content = /^(CURRENT|MANIFEST-\d+|\d+\.(log|ldb|sst))$/;
const attempts = 100;

/**
 * Copies the database as of one moment. LevelDB only adds to its logs, never changes a table, and notes every table
 * that it adds or drops in its manifest: a copy is whole if the manifest was the same before and after it.
 *
 * @param target a directory that does not exist
 * @throws system if there is no database, or it changes too fast, or is damaged; Node's error if it cannot be copied
 */
export async function copyRunningDatabase(stateDirectory: string, target: string): Promise<void> {
  const location = locationOf(stateDirectory);
  for (let attempt = 0; attempt < attempts; attempt++) {
    await rm(target, { recursive: true, force: true });
    await mkdir(target, { recursive: true, mode: 0o700 });
    try {
      const before = await manifestOf(location);
      for (const name of (await readdir(location)).filter((each) => content.test(each))) {
        await copyFile(path.join(location, name), path.join(target, name));
      }
      if (before.equals(await manifestOf(location)) && before.equals(await manifestOf(target))) {
        await refuseDamaged(stateDirectory, target);
        return;
      }
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") {
        throw error; // A file that has gone meanwhile shows a change, or that there is no database.
      }
      const left = await readdir(location).catch((): string[] => []);
      if (!left.includes("CURRENT")) {
        throw systemError(`state directory ${stateDirectory} has no database`, error);
      }
    }
  }
  throw systemError(`the database in state directory ${stateDirectory} changes faster than it can be copied`);
}

/** The name and content of the manifest. */
async function manifestOf(location: string): Promise<Buffer> {
  const current = await readFile(path.join(location, "CURRENT"));
  return Buffer.concat([current, await readFile(path.join(location, current.toString().trim()))]);
}

/** A log that ends in half a record is what a copy of one that is being written has. */
async function refuseDamaged(stateDirectory: string, target: string): Promise<void> {
  const [damage] = (await findLosses(target)).filter(({ kind }) => kind !== "torn");
  if (damage !== undefined) {
    throw systemError(
      `db/${damage.file} in state directory ${stateDirectory} is damaged: run \`sockerless check --repair\` first`,
    );
  }
}
