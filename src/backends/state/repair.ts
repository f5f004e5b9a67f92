/**
 * Rebuilds a database from the intact data in its files, if LevelDB cannot open it or would read damaged data as
 * records: its tables, its manifest, `CURRENT`. All files are copied first.
 */
import {
  copyFile,
  mkdir,
  mkdtemp,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import path from "node:path";

import { ClassicLevel } from "classic-level";

import { makeDirectories } from "../../common/make-directories.ts";
import { findLosses, type Loss, needsRepair, tableName } from "./damage.ts";
import { locationOf, openError } from "./database.ts";
import { copyDatabase, setAsideIn } from "./set-aside.ts";
import { damagedBlocks, hideBlocks } from "./table-file.ts";

/**
 * Repairs a database, unless another backend has already done so.
 *
 * @param reported the loss for which LevelDB refused the files; undefined if the files show it
 * @throws conflict if another backend has it open; system if it cannot be copied, and is left as it is
 */
export async function repairDatabase(stateDirectory: string, reported?: Loss): Promise<void> {
  const location = locationOf(stateDirectory);
  await makeDirectories(location, 0o700); // All of the database may be missing.
  const lock = await lockDatabase(stateDirectory);
  try {
    const lossesNow = async (): Promise<readonly Loss[]> => [
      ...(await findLosses(location)),
      ...(reported === undefined ? [] : [reported]),
    ];
    const losses = await lossesNow();
    if (!losses.some(needsRepair)) {
      return;
    }
    const copy = await copyDatabase(stateDirectory, losses);
    for (const { file } of losses.filter(({ kind }) => kind === "unreadable")) {
      await renew(path.join(location, file), path.join(copy, "db", file));
    }
    const left = await lossesNow();
    if (!left.some(needsRepair)) {
      return; // LevelDB itself drops what is damaged of a log, and no more.
    }
    for (const loss of left) {
      await hide(path.join(location, loss.file), loss);
    }
    await ClassicLevel.repair(location);
    await rm(path.join(location, "lost"), { recursive: true, force: true }); // The copy has all of it.
  } finally {
    await lock.release();
  }
}

/** Replaces a file by the copy of what is left of it: what was lost is then damaged, and can be read. */
async function renew(file: string, copy: string): Promise<void> {
  await copyFile(copy, `${file}.left`);
  await rename(`${file}.left`, file);
}

/** Hides damaged data from the repair, which does not verify checksums either. */
async function hide(file: string, { kind, offset }: Loss): Promise<void> {
  if (kind === "missing") {
    return;
  }
  if (file.endsWith(".log")) {
    await truncate(file, offset);
    return;
  }
  if (!tableName.test(path.basename(file))) {
    return; // All others are rebuilt.
  }
  const table = await readFile(file);
  const blocks = damagedBlocks(table);
  if (blocks === undefined) {
    await rm(file);
    return;
  }
  hideBlocks(table, blocks);
  await writeFile(file, table);
}

/** Takes the lock of a database that cannot be opened: by opening an empty one whose lock is a link to it. */
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
