/**
 * Makes a database anew of what is whole in its files, where LevelDB cannot open it or would read what is no record: its
 * tables, its manifest, `CURRENT`. All of it is copied before.
 */
import { mkdir, mkdtemp, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import path from "node:path";

import { ClassicLevel } from "classic-level";

import { findLosses, type Loss, needsRepair, tableName } from "./damage.ts";
import { locationOf, openError } from "./database.ts";
import { copyDatabase, setAsideIn } from "./set-aside.ts";
import { damagedBlocks, refuseBlocks } from "./table-file.ts";

/**
 * Repairs a database, unless another backend has done so.
 *
 * @param told what LevelDB has refused the files for; undefined: they tell it
 * @throws conflict: another backend has it open; system: it cannot be copied, and is left as it is
 */
export async function repairDatabase(stateDirectory: string, told?: Loss): Promise<void> {
  const location = locationOf(stateDirectory);
  const lock = await lockDatabase(stateDirectory);
  try {
    const losses = [...(await findLosses(location)), ...(told === undefined ? [] : [told])];
    if (!losses.some(needsRepair)) {
      return;
    }
    await copyDatabase(stateDirectory, losses);
    for (const loss of losses) {
      await hide(path.join(location, loss.file), loss);
    }
    await ClassicLevel.repair(location);
    await rm(path.join(location, "lost"), { recursive: true, force: true }); // All of it is in the copy.
  } finally {
    await lock.release();
  }
}

/** Hides what is damaged from the repair, which does not read checksums either. */
async function hide(file: string, { kind, offset }: Loss): Promise<void> {
  if (file.endsWith(".log")) {
    await truncate(file, offset);
    return;
  }
  if (kind === "missing" || !tableName.test(path.basename(file))) {
    return; // All others are made anew.
  }
  const table = await readFile(file);
  const blocks = damagedBlocks(table);
  if (blocks === undefined) {
    await rm(file);
    return;
  }
  refuseBlocks(table, blocks);
  await writeFile(file, table);
}

/** Holds the lock of a database that cannot be opened: that of another one, empty, is a link to it. */
async function lockDatabase(stateDirectory: string): Promise<{ release(): Promise<void> }> {
  const lock = path.join(locationOf(stateDirectory), "LOCK");
  await mkdir(setAsideIn(stateDirectory), { recursive: true, mode: 0o700 });
  const holder = await mkdtemp(path.join(setAsideIn(stateDirectory), ".lock-"));
  const drop = (): Promise<void> => rm(holder, { recursive: true, force: true });
  try {
    await symlink(lock, path.join(holder, "LOCK"));
    const database = new ClassicLevel(holder);
    await database.open();
    return {
      async release() {
        await database.close();
        await drop();
      },
    };
  } catch (error) {
    await drop();
    throw openError(stateDirectory, error);
  }
}
