/**
 * Finds damage in the files of a database before LevelDB opens them, which drops what fails its checksums without a word.
 *
 * Its log and its manifest are blocks of 32 KiB of records: a masked CRC-32C of type and data, the data's length, the type
 * (https://github.com/google/leveldb/blob/main/doc/log_format.md). What a process that was killed has not written whole is
 * torn, as are the zeros that a file system leaves where the machine has died; whatever else does not check is damage.
 */
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";

import { crc32c } from "../../../common/crc32c.ts";

const blockBytes = 32 * 1024;
const headerBytes = 7;
const recordTypes = { full: 1, first: 2, middle: 3, last: 4 } as const;
/** Names of files in that form, and of the one that names the manifest. */
const checkedName = /^(\d+\.log|MANIFEST-\d+)$/;

/** Loss of a file of a database. */
export interface Loss {
  readonly file: string;
  /** The end of a crash; what was there and is there no more. */
  readonly kind: "torn" | "damaged";
  /** First byte that does not check. */
  readonly offset: number;
}

/** Reads the logs of a database. @param location its directory. @throws Node's error */
export async function findLosses(location: string): Promise<readonly Loss[]> {
  const names = (await readdir(location)).filter((name) => checkedName.test(name)).toSorted();
  const losses: Loss[] = [];
  for (const file of names) {
    const loss = lossIn(await readFile(path.join(location, file)));
    if (loss !== undefined) {
      losses.push({ file, ...loss });
    }
  }
  return losses;
}

/** The loss of a log; undefined: it is whole. */
export function lossIn(log: Buffer): Omit<Loss, "file"> | undefined {
  let isInRecord = false;
  let begin = 0;
  for (let at = 0; at < log.length; ) {
    const left = blockBytes - (at % blockBytes);
    if (left < headerBytes) {
      at += left; // The trailer of a block.
      continue;
    }
    const fragment = fragmentAt(log, at, left);
    if (fragment === undefined) {
      return { kind: isTornFrom(log, at, left) ? "torn" : "damaged", offset: at };
    }
    const { type, end } = fragment;
    const begins = type === recordTypes.full || type === recordTypes.first;
    if (begins === isInRecord) {
      return { kind: "damaged", offset: at }; // Fragments between are missing.
    }
    begin = begins ? at : begin;
    isInRecord = type === recordTypes.first || type === recordTypes.middle;
    at = end;
  }
  return isInRecord ? { kind: "torn", offset: begin } : undefined;
}

/** The fragment of a record at an offset; undefined: none that is whole. @param left bytes of the block from there on */
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
  return isPlausible && masked(crc32c(log.subarray(at + 6, end))) === log.readUInt32LE(at)
    ? { type, end }
    : undefined;
}

/** Whether nothing but the fragment that begins there can have been cut off, or was not written to the disk. */
function isTornFrom(log: Buffer, at: number, left: number): boolean {
  const end = log.length - trailingZeros(log);
  const isCut = at + headerBytes > log.length || at + headerBytes + log.readUInt16LE(at + 4) > log.length;
  return end <= at || (end <= at + left && (isCut || end < log.length));
}

function trailingZeros(log: Buffer): number {
  const last = log.findLastIndex((byte) => byte !== 0);
  return log.length - 1 - last;
}

/** As LevelDB stores it: a checksum of bytes that hold checksums is of little use. */
function masked(sum: number): number {
  return (((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0;
}
