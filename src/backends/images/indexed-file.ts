/** A file as described by a tar's header. */
import path from "node:path";

import type { Header } from "tar-stream";

import { invalid } from "../../common/errors.ts";
import { capabilityRecord } from "./tar-entries.ts";

const longestPath = 4096;

/** A file, directory or link. Hard links to a file share one object. */
export interface IndexedFile {
  readonly type: "file" | "directory" | "symlink" | "fifo" | "character-device" | "block-device" | "other";
  /** Bytes; for a symlink those of its target. */
  readonly size: number;
  /** Permission bits with set-user-ID, set-group-ID and sticky, as in a tar. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Unix seconds. */
  readonly mtime: number;
  /** Target of a symlink as written; otherwise empty. */
  readonly target: string;
  /** Major and minor number of a device. */
  readonly device?: readonly [number, number];
  /** Value of `security.capability`. */
  readonly capability?: string;
  /** Index of the tar with its content, in the order of addition, and of its entry there; both from 0. */
  readonly source: number;
  readonly entry: number;
}

/** Characters of a file's texts besides its name. */
export function textOf({ target, capability = "" }: IndexedFile): number {
  return target.length + capability.length;
}

/** A directory that no tar lists. */
export const implied: IndexedFile = {
  type: "directory",
  size: 0,
  mode: 0o755,
  uid: 0,
  gid: 0,
  mtime: 0,
  target: "",
  source: -1,
  entry: -1,
};

/** The file that a tar's entry describes. @throws invalid if a link's path is too long */
export function fileOf(header: Header, source: number, entry: number): IndexedFile {
  const { type, mode = 0, uid = 0, gid = 0, mtime, devmajor = 0, devminor = 0 } = header;
  const pax = header.pax as Readonly<Record<string, string>> | null | undefined;
  const capability = pax?.[capabilityRecord];
  const file = {
    size: 0,
    mode: mode & 0o7777,
    uid: numberOf(pax?.["uid"], uid),
    gid: numberOf(pax?.["gid"], gid),
    mtime: numberOf(pax?.["mtime"], (mtime?.getTime() ?? 0) / 1000),
    target: "",
    source,
    entry,
  };
  switch (type) {
    case "directory":
    case "fifo":
      return { ...file, type };
    case "character-device":
    case "block-device":
      return { ...file, type, device: [devmajor, devminor] };
    case "symlink": {
      const target = header.linkname ?? "";
      cleanPath(target);
      return { ...file, type, target, size: Buffer.byteLength(target) };
    }
    case "link": // The target of the link is missing.
      return { ...file, type: "file" };
    case "file":
    case "contiguous-file": {
      // A value that the reader could not decode is dropped rather than changed.
      const isWhole = capability !== undefined && !capability.includes("\ufffd");
      return { ...file, type: "file", size: header.size ?? 0, ...(isWhole ? { capability } : {}) };
    }
    default:
      return { ...file, type: "other" };
  }
}

/** The integer part of a number in a PAX record. */
function numberOf(record: string | undefined, otherwise: number): number {
  const number = record === undefined ? Number.NaN : Number(record);
  return Math.floor(Number.isFinite(number) ? number : otherwise);
}

/** An entry's name as an absolute path. @throws invalid if it exceeds the length of a path */
export function cleanPath(name: string): string {
  if (Buffer.byteLength(name) > longestPath) {
    throw invalid(`archive/tar: a path of more than ${longestPath} bytes`);
  }
  return path.posix.resolve("/", name);
}
