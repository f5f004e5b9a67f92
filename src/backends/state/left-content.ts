/** Reads files of which a disk has lost parts. */
import { constants } from "node:os";
import { open, readFile } from "node:fs/promises";

/** Bytes that are read or lost together: sectors of disks have no more. */
const sectorBytes = 4096;

/** Errors of the disk or its file system, not of this process. */
const lost: ReadonlySet<number | undefined> = new Set([constants.errno.EIO, constants.errno.EBADMSG, 117]); // EUCLEAN

/** Whether a disk no longer has what was to be read. */
export function isDiskError(error: unknown): boolean {
  return error instanceof Error && "errno" in error && lost.has(-Number(error.errno));
}

/** Handles the failure to read a file. @throws the error, if it is not the disk's */
export function unlessDiskError(error: unknown): undefined {
  if (!isDiskError(error)) {
    throw error;
  }
}

/** The part of a file that a disk still has. */
export interface LeftContent {
  /** With zeros in place of what is lost. */
  readonly bytes: Buffer;
  /** Offset of the first part that is lost; undefined if all is there. */
  readonly lostAt: number | undefined;
}

/** Reads a file, or what is left of it. @throws Node's error, if it is not the disk's */
export async function readLeft(name: string): Promise<LeftContent> {
  const whole = await readFile(name).catch(unlessDiskError);
  if (whole !== undefined) {
    return { bytes: whole, lostAt: undefined };
  }
  await using file = await open(name);
  const { size } = await file.stat();
  const bytes = Buffer.alloc(size);
  let lostAt: number | undefined;
  for (let at = 0; at < size; at += sectorBytes) {
    const read = await file.read(bytes, at, Math.min(sectorBytes, size - at), at).catch(unlessDiskError);
    if (read === undefined) {
      lostAt ??= at;
    }
  }
  return { bytes, lostAt: lostAt ?? 0 };
}
