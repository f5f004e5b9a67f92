/**
 * Finds damage in a database's files before LevelDB opens them: LevelDB silently drops what fails its checksums, or
 * does not check them.
 *
 * Its log and its manifest consist of blocks of 32 KiB with records: a masked CRC-32C of type and data, the data's
 * length, the type (https://github.com/google/leveldb/blob/main/doc/log_format.md). An incomplete write of a killed
 * process is torn, and so are the zeros that a file system leaves after a crash of the machine; every other mismatch is
 * damage.
 */
import { readdir } from "node:fs/promises";
import path from "node:path";

import { BinaryReader } from "@bufbuild/protobuf/wire";

import { maskedCrc32c } from "../../common/crc32c.ts";
import { messageOf, unlessMissing } from "../../common/errors.ts";
import { isNotYetDatabase } from "./database.ts";
import { readLeft } from "./left-content.ts";
import { damagedBlocks } from "./table-file.ts";

const blockBytes = 32 * 1024;
const headerBytes = 7;
const recordTypes = { full: 1, first: 2, middle: 3, last: 4 } as const;
/** Names of files in that format. */
const logName = /^(\d+\.log|MANIFEST-\d+)$/;
/** Names of tables. */
export const tableName = /^\d+\.(ldb|sst)$/;
/**
 * Fields of a manifest's records, by tag: integers, then strings
 * (https://github.com/google/leveldb/blob/main/db/version_edit.cc).
 */
const manifestFields: ReadonlyMap<number, { readonly integers: number; readonly strings: number }> = new Map([
  ...[2, 3, 4, 9].map((tag) => [tag, { integers: 1, strings: 0 }] as const),
  [1, { integers: 0, strings: 1 }],
  [5, { integers: 1, strings: 1 }],
  [6, { integers: 2, strings: 0 }],
  [7, { integers: 3, strings: 2 }],
]);
const logTag = 2;
/** The file that names the current manifest, and its content. */
const currentName = "CURRENT";
const currentContent = /^(MANIFEST-\d+)\n$/;

/** Data lost in a file of a database. */
export interface Loss {
  readonly file: string;
  /** The torn end after a crash; damaged content; content that the disk does not read any more; a missing file. */
  readonly kind: "torn" | "damaged" | "unreadable" | "missing";
  /** First byte that fails the check. */
  readonly offset: number;
}

/** Whether LevelDB cannot open the database as it is, or would open it without a word on what is lost. */
export function needsRepair({ file, kind }: Loss): boolean {
  return kind === "unreadable" || kind === "missing" || (kind !== "torn" && !file.endsWith(".log"));
}

/**
 * Finds the losses in a database's files. One that does not exist is lost if there is content beside it, which only a
 * database knows.
 *
 * @param location its directory
 * @throws Node's error
 */
export async function findLosses(location: string): Promise<readonly Loss[]> {
  const names = (await readdir(location).catch(unlessMissing)) ?? [];
  if (isNotYetDatabase(names)) {
    const content = await readdir(path.join(location, "..", "blobs", "sha256")).catch(unlessMissing);
    return content === undefined || content.length === 0 ? [] : [missing(currentName)];
  }
  const losses = await lossOfCurrent(location, names);
  for (const file of names.toSorted()) {
    const loss = await lossOf(location, file).catch(unlessMissing); // Another backend may still be ending.
    losses.push(...(loss === undefined ? [] : [{ file, ...loss }]));
  }
  return losses;
}

/** The loss that LevelDB reports: a table named in its manifest, or the manifest itself. */
export function reportedLoss(error: unknown): Loss {
  const table = /\d+\.(?:ldb|sst)/.exec(messageOf(error))?.[0];
  return table === undefined ? { file: "MANIFEST", kind: "damaged", offset: 0 } : missing(table);
}

async function lossOfCurrent(location: string, names: readonly string[]): Promise<Loss[]> {
  if (!names.includes(currentName)) {
    return [missing(currentName)];
  }
  const { bytes, lostAt } = await readLeft(path.join(location, currentName));
  const manifest = currentContent.exec(bytes.toString("latin1"))?.[1];
  if (manifest === undefined) {
    return [{ file: currentName, kind: lostAt === undefined ? "damaged" : "unreadable", offset: 0 }];
  }
  if (!names.includes(manifest)) {
    return [missing(manifest)];
  }
  const named = logNamedIn((await readLeft(path.join(location, manifest))).bytes);
  const logs = names.filter((name) => name.endsWith(".log"));
  return named === 0 || logs.some((name) => Number.parseInt(name, 10) === named)
    ? []
    : [missing(`${String(named).padStart(6, "0")}.log`)];
}

function missing(file: string): Loss {
  return { file, kind: "missing", offset: 0 };
}

/** Number of the log that a manifest names, without which LevelDB opens the database all the same; 0 for none. */
function logNamedIn(manifest: Buffer): number {
  let named = 0;
  for (const record of recordsIn(manifest)) {
    const reader = new BinaryReader(record);
    while (reader.pos < reader.len) {
      const tag = reader.uint32();
      const { integers, strings } = manifestFields.get(tag) ?? { integers: 0, strings: 0 };
      for (let n = 0; n < integers; n++) {
        const value = Number(reader.uint64());
        named = tag === logTag ? value : named;
      }
      for (let n = 0; n < strings; n++) {
        reader.bytes();
      }
    }
  }
  return named;
}

/** The intact records of a log, up to the first one that is not. */
function* recordsIn(log: Buffer): Generator<Buffer> {
  let fragments: Buffer[] = [];
  for (let at = 0; at < log.length; ) {
    const left = blockBytes - (at % blockBytes);
    const fragment = left < headerBytes ? undefined : fragmentAt(log, at, left);
    if (left >= headerBytes && fragment === undefined) {
      return;
    }
    if (fragment !== undefined) {
      fragments.push(log.subarray(at + headerBytes, fragment.end));
      if (fragment.type === recordTypes.full || fragment.type === recordTypes.last) {
        yield Buffer.concat(fragments);
        fragments = [];
      }
    }
    at = fragment?.end ?? at + left;
  }
}

async function lossOf(location: string, file: string): Promise<Omit<Loss, "file"> | undefined> {
  if (!logName.test(file) && !tableName.test(file)) {
    return undefined;
  }
  const { bytes, lostAt } = await readLeft(path.join(location, file));
  const loss = logName.test(file) ? lossIn(bytes) : lossInTable(bytes);
  return lostAt === undefined ? loss : { kind: "unreadable", offset: loss?.offset ?? lostAt };
}

function lossInTable(table: Buffer): Omit<Loss, "file"> | undefined {
  const blocks = damagedBlocks(table);
  const offset = blocks === undefined ? 0 : blocks[0]?.offset;
  return offset === undefined ? undefined : { kind: "damaged", offset };
}

/** The loss in a log; undefined if it is intact. */
export function lossIn(log: Buffer): Omit<Loss, "file"> | undefined {
  let isInRecord = false;
  let begin = 0;
  for (let at = 0; at < log.length; ) {
    const left = blockBytes - (at % blockBytes);
    if (left < headerBytes) {
      at += left; // Trailer of a block.
      continue;
    }
    const fragment = fragmentAt(log, at, left);
    if (fragment === undefined) {
      return { kind: isTornFrom(log, at, left) ? "torn" : "damaged", offset: at };
    }
    const { type, end } = fragment;
    const begins = type === recordTypes.full || type === recordTypes.first;
    if (begins === isInRecord) {
      return { kind: "damaged", offset: at }; // Missing fragments in between.
    }
    begin = begins ? at : begin;
    isInRecord = type === recordTypes.first || type === recordTypes.middle;
    at = end;
  }
  return isInRecord ? { kind: "torn", offset: begin } : undefined;
}

/** The fragment of a record at an offset; undefined if it is not intact. @param left bytes to the end of the block */
function fragmentAt(
  log: Buffer,
  at: number,
  left: number,
): { readonly type: number; readonly end: number } | undefined {
  if (at + headerBytes > log.length) {
    return undefined;
  }
  const end = at + headerBytes + log.readUInt16LE(at + 4);
  const type = log.readUInt8(at + 6);
  const isPlausible = end <= Math.min(at + left, log.length) && type >= 1 && type <= 4;
  return isPlausible && maskedCrc32c(log.subarray(at + 6, end)) === log.readUInt32LE(at)
    ? { type, end }
    : undefined;
}

/** Whether only the fragment that begins at the offset can have been cut off or left unwritten. */
function isTornFrom(log: Buffer, at: number, left: number): boolean {
  const written = log.length - trailingZeros(log);
  const hasHeader = at + headerBytes <= log.length;
  const end = at + headerBytes + (hasHeader ? log.readUInt16LE(at + 4) : 0);
  const isWithinBlock = Math.max(end, written) <= at + left; // A fragment never exceeds its block.
  return written <= at || (isWithinBlock && (end > log.length || written < log.length));
}

function trailingZeros(log: Buffer): number {
  const last = log.findLastIndex((byte) => byte !== 0);
  return log.length - 1 - last;
}
