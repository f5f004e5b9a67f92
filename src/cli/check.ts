/** `sockerless check`: finds what a broken disk has left of a state directory, and mends what can be mended. */
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { lchown, mkdir, open, readdir, rename, stat } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";

import { readRecords } from "../backends/cloud/stored/log-record.ts";
import { checkDatabase, type Finding, holdDatabase } from "../backends/state/check.ts";
import { readLeft, unlessDiskError } from "../backends/state/left-content.ts";
import { errnoOf, unlessMissing } from "../common/errors.ts";
import { checkLayers } from "./check-layers.ts";
import { checkMachine } from "./check-machine.ts";
import { refuseForeignFiles } from "./state-tree.ts";

/** Records of the host process and the shims, and what the daemon does without a readable one (docs/formats.md). */
const jsonFiles: readonly (readonly [file: RegExp, outcome: string])[] = [
  [/^layers\/[^/]+\/layer\.json$/, "left: the layer is unpacked anew when it is needed"],
  [/^containers\/[^/]+\/rootfs\.json$/, "left: the container's log and end are told, and not its files"],
  [/^containers\/[^/]+\/(shim|begun)\.json$/, "left: the container's next start writes it anew"],
  [/^containers\/[^/]+\/exit\.json$/, "left: the container's end is told with the exit code 255"],
  [/^containers\/[^/]+\/bundle\/config\.json$/, "left: the container's next start writes it anew"],
  [
    /^volumes\/[^/]+\/volume\.json$/,
    "left: the volume is not used until its record is put back from a backup",
  ],
];
/** Those that a crash of the machine may leave empty, which is as good as none. */
const mayBeEmpty = /^(containers|layers)\//;
const blobFile = /^blobs\/sha256\/([0-9a-f]{64})$/;
const logFile = /^(containers\/[^/]+\/log|logs)\/[^/]+\.log$/;

/** Directories of records and content; files in containers and volumes have no digests. */
const searched = [
  "layers/*",
  "containers/*",
  "containers/*/bundle",
  "containers/*/log",
  "blobs/sha256",
  "logs",
  "volumes/*",
];

/** All that a check reads or writes in a state directory. */
const used = "blobs containers damaged db layers logs probe set-aside spare volumes".split(" ");

/** Entries that a repair makes anew. Files that it puts aside keep their owners. */
const made = ["db", "set-aside", "spare"];

/**
 * Checks a state directory whose daemon does not run.
 *
 * @param repair mends what can be mended; nothing is deleted, but put aside
 * @returns what was found: records, files in the order of paths, layers, then mounts and packet rules of this machine
 * @throws conflict if a backend uses the directory; invalid if it holds a link, or the like, in place of a record
 */
export async function checkState(stateDirectory: string, repair: boolean): Promise<readonly Finding[]> {
  await refuseForeignFiles(stateDirectory, used);
  const database = await checkDatabase(stateDirectory, repair);
  await using _held = repair ? await holdDatabase(stateDirectory) : undefined;
  const findings = [...database.findings];
  const aside = path.join(stateDirectory, "damaged", new Date().toISOString().replaceAll(":", ""));
  for (const file of await filesOf(stateDirectory)) {
    const finding = await checkFile(stateDirectory, file, repair ? aside : undefined);
    if (finding !== undefined) {
      findings.push({ what: file, ...finding });
    }
  }
  findings.push(...(await checkLayers(stateDirectory, database.images, repair ? aside : undefined)));
  findings.push(...(await checkMachine(stateDirectory, repair)));
  if (repair) {
    await giveToOwner(stateDirectory);
  }
  return findings;
}

/** Gives what root has made in the state directory of a backend that runs as another user to that user. */
async function giveToOwner(stateDirectory: string): Promise<void> {
  if (process.geteuid?.() !== 0 || !existsSync(stateDirectory)) {
    return;
  }
  const { uid, gid } = await stat(stateDirectory);
  for (const name of uid === 0 ? [] : made) {
    const place = path.join(stateDirectory, name);
    // With their types, since names alone would be followed where they are links.
    const below = await readdir(place, { recursive: true, withFileTypes: true }).catch(() => []);
    for (const each of [place, ...below.map((entry) => path.join(entry.parentPath, entry.name))]) {
      await lchown(each, uid, gid).catch(unlessMissing);
    }
  }
}

/** Lines for a user. */
export function reportFindings(findings: readonly Finding[]): string {
  const lines = findings.map(({ what, fault, outcome }) => `${what} ${fault}: ${outcome}`);
  return findings.length === 0 ? "no damage found\n" : `${lines.join("\n")}\n`;
}

type Fault = Omit<Finding, "what">;

/** @param aside directory for what cannot be mended; undefined: nothing is changed */
async function checkFile(
  stateDirectory: string,
  file: string,
  aside: string | undefined,
): Promise<Fault | undefined> {
  const location = path.join(stateDirectory, file);
  const digest = blobFile.exec(file)?.[1];
  if (digest !== undefined) {
    return await checkBlob(location, digest, aside && path.join(aside, file));
  }
  if (logFile.test(file)) {
    return await checkLog(location);
  }
  const outcome = jsonFiles.find(([pattern]) => pattern.test(file))?.[1];
  if (outcome === undefined) {
    return undefined;
  }
  const { bytes, lostAt } = await readLeft(location);
  const text = bytes.toString();
  const isWhole = lostAt === undefined && (isObject(text) || (text === "" && mayBeEmpty.test(file)));
  return isWhole ? undefined : { fault: "is no whole record", outcome };
}

async function checkBlob(
  location: string,
  digest: string,
  aside: string | undefined,
): Promise<Fault | undefined> {
  const hash = createHash("sha256");
  const isRead = await pipeline(createReadStream(location), hash).then(() => true, unlessDiskError);
  if (isRead === true && hash.digest("hex") === digest) {
    return undefined;
  }
  const fault = "does not have the content that its name says";
  if (aside === undefined) {
    return { fault, outcome: "its image cannot be saved or pushed: --repair puts it aside" };
  }
  await mkdir(path.dirname(aside), { recursive: true, mode: 0o700 });
  await rename(location, aside);
  return { fault, outcome: `put aside as ${aside}: pull its image again` };
}

async function checkLog(location: string): Promise<Fault | undefined> {
  let whole = 0;
  try {
    for await (const { bytes } of readRecords(createReadStream(location))) {
      whole += bytes.length;
    }
    return undefined;
  } catch (error) {
    if (errnoOf(error) !== undefined) {
      unlessDiskError(error);
      return {
        fault: "cannot be read in part",
        outcome: "left: what is whole of it is shown, and that something is missing",
      };
    }
  }
  if (!(await isTornFrom(location, whole))) {
    return {
      fault: `is damaged after byte ${whole}`,
      outcome: "left: what is whole of it is shown, and that something is missing",
    };
  }
  return {
    fault: `ends in half a record at byte ${whole}, as after a crash, or while a container writes it`,
    outcome: "left: not shown, and the container's next output cuts it off",
  };
}

/** Whether a log ends within the record that begins at an offset, or in zeros from there on. */
async function isTornFrom(location: string, offset: number): Promise<boolean> {
  const { size } = await stat(location);
  const rest = Buffer.alloc(Math.min(size - offset, largestRecord));
  const log = await open(location, "r");
  try {
    if ((await log.read(rest, 0, rest.length, offset).catch(unlessDiskError)) === undefined) {
      return false;
    }
  } finally {
    await log.close();
  }
  const isHeader = rest.length >= 8 && rest.readUInt16LE(0) === logMagic;
  const isCut = rest.length < 8 || (isHeader && recordBytes(rest.readUInt32LE(4)) > size - offset);
  return isCut || rest.every((byte) => byte === 0);
}

const logMagic = 0x4c53;
const recordBytes = (data: number): number => 20 + data + 4;
const largestRecord = recordBytes(1024 * 1024);

function isObject(text: string): boolean {
  try {
    return (JSON.parse(text) as unknown) instanceof Object;
  } catch {
    return false;
  }
}

/** Paths of the files to check, in order. */
async function filesOf(stateDirectory: string): Promise<readonly string[]> {
  const files: string[] = [];
  for (const pattern of searched) {
    for (const directory of await expand(stateDirectory, pattern.split("/"))) {
      files.push(...(await namesIn(stateDirectory, directory, "file")));
    }
  }
  return files.toSorted((one, other) => one.localeCompare(other));
}

async function expand(stateDirectory: string, segments: readonly string[]): Promise<readonly string[]> {
  let found: readonly string[] = [""];
  for (const segment of segments) {
    const next = found.map((each) =>
      segment === "*"
        ? namesIn(stateDirectory, each, "directory")
        : Promise.resolve([path.posix.join(each, segment)]),
    );
    found = (await Promise.all(next)).flat();
  }
  return found;
}

async function namesIn(
  stateDirectory: string,
  directory: string,
  kind: "file" | "directory",
): Promise<readonly string[]> {
  const entries = await readdir(path.join(stateDirectory, directory), { withFileTypes: true }).catch(
    (error: unknown) => {
      if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") {
        return [];
      }
      throw error;
    },
  );
  const wanted = entries.filter((entry) => (kind === "file" ? entry.isFile() : entry.isDirectory()));
  return wanted.map(({ name }) => path.posix.join(directory, name));
}
