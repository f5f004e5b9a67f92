/**
 * Disk space for commits reserved in advance: a file of a fixed size, fully written, so that overwriting it needs no
 * free space, even if others fill the disk.
 *
 *     a half    records, one after the other
 *     record    length (uint32, little-endian), CRC-32 of the payload (the same), payload
 *     payload   sockerless.state.v1.SpareRecord
 *
 * The file has two halves. When one is full, the other continues, beginning with everything still needed. A half ends
 * at a torn record, or at one that does not follow its predecessor.
 */
import { type FileHandle, open, rm } from "node:fs/promises";
import path from "node:path";
import { crc32 } from "node:zlib";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";

import { errnoOf, systemError, unlessMissing } from "../../common/errors.ts";
import {
  type SpareOperation,
  type SpareRecord,
  SpareRecordSchema,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import type { Operation } from "./database.ts";
import { bytesOf, LastOperations } from "./last-operations.ts";

/** Bytes of a half: enough for some thousand containers. */
export const defaultHalfBytes = 4 * 1024 * 1024;
const framingBytes = 8;

/** Options of {@link Spare.open}. */
export interface SpareOptions {
  readonly stateDirectory: string;
  /** Number of the last record already in the database. */
  readonly taken: bigint;
  /** Bytes of a half; for tests. */
  readonly halfBytes?: number;
}

/** The file `spare` of a state directory. */
export class Spare {
  readonly #file: FileHandle;
  /** Capacity for records. */
  readonly halfBytes: number;
  readonly #content = new LastOperations();
  #sequence: bigint;
  #half = 0;
  #offset = 0;

  private constructor(file: FileHandle, halfBytes: number, taken: bigint) {
    this.#file = file;
    this.halfBytes = halfBytes;
    this.#sequence = taken;
  }

  /**
   * Opens the spare of a state directory, or creates it.
   *
   * @throws Node's error if it cannot be created, for example for lack of space; leaves nothing behind then
   */
  static async open({ stateDirectory, taken, halfBytes = defaultHalfBytes }: SpareOptions): Promise<Spare> {
    const name = path.join(stateDirectory, "spare");
    const file = (await openWhole(name, 2 * halfBytes)) ?? (await makeWhole(name, 2 * halfBytes));
    try {
      const spare = new Spare(file, halfBytes, taken);
      await spare.#load();
      return spare;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** All operations missing in the database. */
  get content(): Pick<LastOperations, "byKey" | "bytes" | "eventBytes"> {
    return this.#content;
  }

  /** Number of the last record. */
  get sequence(): bigint {
    return this.#sequence;
  }

  /**
   * Adds operations, all or none.
   *
   * @throws system if they do not fit; Node's error if the file cannot be written
   */
  async add(operations: readonly Operation[]): Promise<void> {
    const hasContent = this.#content.byKey.size > 0;
    if (hasContent && (await this.#append(this.#half, this.#offset, operations, false))) {
      this.#content.add(operations);
      return;
    }
    // Keeps only the last operation on each key.
    const all = new LastOperations();
    all.add(this.#content.byKey.values());
    all.add(operations);
    if (!(await this.#append(hasContent ? 1 - this.#half : 0, 0, [...all.byKey.values()], true))) {
      throw systemError("no space left in the spare of the state directory");
    }
    this.#content.add(operations);
  }

  /** Drops the content, once the database has it and has stored {@link sequence}. */
  clear(): void {
    this.#content.clear();
    this.#offset = 0;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** @returns whether it fitted */
  async #append(
    half: number,
    offset: number,
    operations: readonly Operation[],
    whole: boolean,
  ): Promise<boolean> {
    const fewest = operations.reduce((sum, operation) => sum + bytesOf(operation), offset + framingBytes);
    if (fewest > this.halfBytes) {
      return false; // Not serialized first: there may be much more than a half takes.
    }
    const payload = toBinary(
      SpareRecordSchema,
      create(SpareRecordSchema, {
        sequence: this.#sequence + 1n,
        whole,
        operations: operations.map((operation) =>
          operation.type === "put" ? { key: operation.key, value: operation.value } : { key: operation.key },
        ),
      }),
    );
    const end = offset + framingBytes + payload.length;
    if (end > this.halfBytes) {
      return false;
    }
    const record = Buffer.alloc(framingBytes + payload.length);
    record.writeUInt32LE(payload.length, 0);
    record.writeUInt32LE(crc32(payload), 4);
    record.set(payload, framingBytes);
    await writeAll(this.#file, record, half * this.halfBytes + offset);
    this.#sequence += 1n;
    this.#half = half;
    this.#offset = end;
    return true;
  }

  /** Reads the newer half, if the database lacks its content. */
  async #load(): Promise<void> {
    const bytes = Buffer.alloc(2 * this.halfBytes);
    await readAll(this.#file, bytes);
    const halves = [0, 1]
      .map((half) => ({
        half,
        ...recordsOf(bytes.subarray(half * this.halfBytes, (half + 1) * this.halfBytes)),
      }))
      .filter(({ records }) => (records[0]?.sequence ?? 0n) > this.#sequence);
    halves.sort((a, b) => Number((b.records[0]?.sequence ?? 0n) - (a.records[0]?.sequence ?? 0n)));
    const [last] = halves;
    if (last === undefined) {
      return;
    }
    this.#half = last.half;
    this.#offset = last.end;
    for (const record of last.records) {
      this.#sequence = record.sequence;
      this.#content.add(record.operations.map(operationOf));
    }
  }
}

/** Opens the file if it has its full length; undefined otherwise, when nothing was ever written to it. */
async function openWhole(name: string, size: number): Promise<FileHandle | undefined> {
  const file = await openForWriting(name).catch(unlessMissing);
  if (file === undefined) {
    return undefined;
  }
  if ((await file.stat()).size === size) {
    return file;
  }
  await file.close();
  return undefined;
}

/** Opens a file for reading and writing, or just for reading on a read-only file system. @throws Node's error */
async function openForWriting(name: string): Promise<FileHandle> {
  try {
    return await open(name, "r+");
  } catch (error) {
    if (errnoOf(error) === "EROFS") {
      return open(name, "r");
    }
    throw error;
  }
}

async function makeWhole(name: string, size: number): Promise<FileHandle> {
  const file = await open(name, "w+", 0o600);
  try {
    await writeAll(file, Buffer.alloc(size), 0);
    return file;
  } catch (error) {
    await file.close();
    await rm(name, { force: true });
    throw error;
  }
}

async function writeAll(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

async function readAll(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, done);
    if (bytesRead === 0) {
      return;
    }
    done += bytesRead;
  }
}

/** The records of a half up to its end, starting at a complete (`whole`) one. */
function recordsOf(half: Buffer): { readonly records: readonly SpareRecord[]; readonly end: number } {
  const records: SpareRecord[] = [];
  let end = 0;
  for (;;) {
    const record = recordAt(half, end);
    const before = records.at(-1);
    const follows = before === undefined ? record?.whole : record?.sequence === before.sequence + 1n;
    if (record === undefined || follows !== true || (before !== undefined && record.whole)) {
      return { records, end };
    }
    records.push(record);
    end += framingBytes + half.readUInt32LE(end);
  }
}

function recordAt(half: Buffer, offset: number): SpareRecord | undefined {
  if (offset + framingBytes > half.length) {
    return undefined;
  }
  const length = half.readUInt32LE(offset);
  const start = offset + framingBytes;
  if (length === 0 || start + length > half.length) {
    return undefined;
  }
  const payload = half.subarray(start, start + length);
  return crc32(payload) === half.readUInt32LE(offset + 4)
    ? fromBinary(SpareRecordSchema, payload)
    : undefined;
}

function operationOf({ key, value }: SpareOperation): Operation {
  return value === undefined ? { type: "del", key } : { type: "put", key, value };
}
