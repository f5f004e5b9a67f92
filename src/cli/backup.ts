/** `sockerless backup` and `sockerless restore`: a state directory as a tar archive, made by the machine's tar. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  writeFile,
} from "node:fs/promises";
import path from "node:path";

import { abandonedMs } from "../backends/state/leftovers.ts";
import { copyRunningDatabase } from "../backends/state/snapshot.ts";
import { conflict, invalid, messageOf, systemError, unlessMissing } from "../common/errors.ts";
import { version } from "../common/version.ts";
import { refuseForeignFiles } from "./state-tree.ts";

const recordName = "backup.json";
const recordVersion = 1;

/** The archive's description, its first file. */
interface BackupRecord {
  readonly version: number;
  /** Version of sockerless that made it. */
  readonly release: string;
  readonly volumes: boolean;
}

/** Files beside the database (docs/formats.md). Scratch, locks, sockets and the builder's cache are made anew. */
const kept = ["blobs", "containers", "layers", "logs", "staged", "set-aside"];
const volumes = "volumes";
/** All that a backup may hold. */
const restored: ReadonlySet<string> = new Set([recordName, "db", "spare", ...kept, volumes]);

/** All that overlayfs and images mean, in tar's options. */
const faithful = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--sparse"];

/** Exit code of GNU tar for files that changed or went while they were read. */
const changedMeanwhile = 1;

/**
 * Writes a backup, also while the daemon runs: the records are as of one moment, files of containers and volumes as they
 * are read after it.
 *
 * @param file appears when it is whole, with mode 0600; its suffix chooses the compression (`.gz`, `.xz`, `.zst`)
 * @throws SockerlessError if there is no state, or tar fails
 */
export async function backup(stateDirectory: string, file: string, withVolumes: boolean): Promise<void> {
  const target = path.resolve(file);
  // Its name is its own, as another backup to the same file may be under way.
  const name = `.new-${randomBytes(4).toString("hex")}-${path.basename(target)}`;
  const begun = path.join(path.dirname(target), name);
  const scratch = await mkdtemp(path.join(stateDirectory, ".backup-")).catch((error: unknown) => {
    throw systemError(`cannot back up state directory ${stateDirectory}: ${messageOf(error)}`, error);
  });
  try {
    const record: BackupRecord = { version: recordVersion, release: version, volumes: withVolumes };
    await writeFile(path.join(scratch, recordName), JSON.stringify(record));
    // The spare first: what it has and the database has, too, counts once.
    const hasSpare = await copyFile(path.join(stateDirectory, "spare"), path.join(scratch, "spare")).then(
      () => true,
      unlessMissing,
    );
    await copyRunningDatabase(stateDirectory, path.join(scratch, "db"));
    const there = await readdir(stateDirectory);
    const names = [...kept, ...(withVolumes ? [volumes] : [])].filter((name) => there.includes(name));
    await removeAbandoned(target);
    // It has what every container was given.
    await writeFile(begun, "", { mode: 0o600, flag: "wx" });
    const code = await tar([
      ...["--create", "--file", begun, "--auto-compress", ...faithful],
      // Mounts of running containers are made of the rest.
      ...[
        "--one-file-system",
        "--warning=no-file-changed",
        "--warning=no-file-removed",
        "--warning=no-file-ignored",
      ],
      ...["-C", scratch, recordName, "db", ...(hasSpare ? ["spare"] : [])],
      ...(names.length === 0 ? [] : ["-C", stateDirectory, ...names]), // `-C` alone is an error.
    ]);
    if (code > changedMeanwhile) {
      throw systemError(`tar ended with ${code}: see above`);
    }
    await rename(begun, target);
  } finally {
    await rm(scratch, { recursive: true, force: true });
    await rm(begun, { force: true });
  }
}

/** Removes what killed backups to the same file have left. */
async function removeAbandoned(target: string): Promise<void> {
  const directory = path.dirname(target);
  const ofTarget = new RegExp(`^\\.new-(?:[0-9a-f]{8}-)?${RegExp.escape(path.basename(target))}$`);
  for (const name of (await readdir(directory)).filter((each) => ofTarget.test(each))) {
    const file = path.join(directory, name);
    const status = await stat(file).catch(unlessMissing);
    if (status !== undefined && Date.now() - status.mtimeMs > abandonedMs) {
      await rm(file, { force: true });
    }
  }
}

/**
 * Makes a state directory of a backup; it appears when it is whole.
 *
 * @param stateDirectory must be missing or empty
 * @throws SockerlessError `conflict` if it is not; `invalid` if the file is no backup that this version can read, or
 *   holds what no backup does
 */
export async function restore(stateDirectory: string, file: string): Promise<void> {
  const target = path.resolve(stateDirectory);
  const names = await readdir(target).catch(unlessMissing);
  if (names !== undefined && names.length > 0) {
    throw conflict(
      `state directory ${stateDirectory} is not empty: stop the daemon and move the directory away first`,
    );
  }
  await mkdir(path.dirname(target), { recursive: true });
  const begun = await mkdtemp(`${target}.restore-`);
  try {
    const code = await tar([
      "--extract",
      "--file",
      path.resolve(file),
      "-C",
      begun,
      "--same-owner",
      "-p",
      ...faithful,
    ]);
    if (code !== 0) {
      throw systemError(`tar ended with ${code}: see above`);
    }
    await refuseStranger(begun, file);
    await readRecord(begun, file);
    await rm(path.join(begun, recordName));
    if (names !== undefined) {
      await rmdir(target);
    }
    await rename(begun, target);
  } finally {
    await rm(begun, { recursive: true, force: true });
  }
}

/** Refuses what no backup holds; what it does is its owner's alone, whatever modes the archive gives. */
async function refuseStranger(directory: string, file: string): Promise<void> {
  await chmod(directory, 0o700);
  const entries = await readdir(directory, { withFileTypes: true });
  const other = entries.find(({ name }) => !restored.has(name));
  if (other !== undefined) {
    throw invalid(`${file} is no backup of sockerless: it has ${other.name}`);
  }
  await refuseForeignFiles(directory, [...restored]);
  for (const { name } of entries.filter((entry) => entry.isDirectory())) {
    await chmod(path.join(directory, name), 0o700);
  }
}

async function readRecord(directory: string, file: string): Promise<void> {
  let record: BackupRecord;
  try {
    record = JSON.parse(await readFile(path.join(directory, recordName), "utf8")) as BackupRecord;
  } catch (error) {
    throw invalid(`${file} is no backup of sockerless: ${messageOf(error)}`, error);
  }
  if (record.version !== recordVersion) {
    throw invalid(
      `${file} was written by sockerless ${record.release}: restore it with that version or a newer one`,
    );
  }
}

async function tar(args: readonly string[]): Promise<number> {
  const child = spawn("tar", args, { stdio: ["ignore", "ignore", "inherit"] });
  const [code] = (await once(child, "close").catch((error: unknown) => {
    throw systemError(`cannot run tar: ${messageOf(error)}`, error);
  })) as [number | null];
  return code ?? 128;
}
