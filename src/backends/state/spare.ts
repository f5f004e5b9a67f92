/**
 * Room for commits that is taken in advance: a file of a fixed size whose bytes have all been written, so that writing them
 * again needs no room on a disk, no matter who takes what becomes free there.
 *
 *     a half    records, one after the other
 *     record    length (uint32, little-endian), CRC-32 of the payload (the same), payload
 *     payload   sockerless.state.v1.SpareRecord
 *
 * The file has two halves. One that is full is followed by the other, which begins with all that is still wanted. A half
 * ends where a record is torn, or is not the successor of the one before it.
 */
import { type FileHandle, open, rm } from "node:fs/promises";
import path from "node:path";
import { crc32 } from "node:zlib";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";

import { errnoOf, systemError } from "../../common/errors.ts";
import {
  type SpareOperation,
  type SpareRecord,
  SpareRecordSchema,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import type { Operation } from "./database.ts";

/** Bytes of a half: all events that are kept, and what some thousand containers come to. */
const defaultHalfBytes = 4 * 1024 * 1024;
const framingBytes = 8;

/** The last operation on each key that the spare holds. */
export type SpareContent = ReadonlyMap<string, Operation>;

/** Options of {@link Spare.open}. */
export interface SpareOptions {
  readonly stateDirectory: string;
  /** The last record that the database has. */
  readonly taken: bigint;
  /** Bytes of a half; for tests. */
  readonly halfBytes?: number;
}

/** The file `spare` of a state directory. */
export class Spare {
  readonly #file: FileHandle;
  /** Room for records. */
  readonly halfBytes: number;
  readonly #content = new Map<string, Operation>();
  #sequence: bigint;
  #half = 0;
  #offset = 0;

  private constructor(file: FileHandle, halfBytes: number, taken: bigint) {
    this.#file = file;
    this.halfBytes = halfBytes;
    this.#sequence = taken;
  }

  /**
   * Opens the spare of a state directory, or makes it.
   *
   * @throws Node's error where it cannot be made: there is no room for it, say; none is left behind
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

  /** All that the database lacks. */
  get content(): SpareContent {
    return this.#content;
  }

  /** The last record's number. */
  get sequence(): bigint {
    return this.#sequence;
  }

  /**
   * Adds operations, all of them or none.
   *
   * @throws system where they do not fit; Node's error where the file cannot be written
   */
  async add(operations: readonly Operation[]): Promise<void> {
    if (this.#content.size > 0 && (await this.#append(this.#half, this.#offset, operations, false))) {
      this.#take(operations);
      return;
    }
    // With the last operation on each key only.
    const all = new Map(this.#content);
    for (const operation of operations) {
      all.set(operation.key, operation);
    }
    const next = this.#content.size > 0 ? 1 - this.#half : 0;
    if (!(await this.#append(next, 0, [...all.values()], true))) {
      throw systemError("no space left in the spare of the state directory");
    }
    this.#take(operations);
  }

  /** Forgets what it holds: the database has it, and says so with {@link sequence}. */
  clear(): void {
    this.#content.clear();
    this.#offset = 0;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #take(operations: readonly Operation[]): void {
    for (const operation of operations) {
      this.#content.set(operation.key, operation);
    }
  }

  /** @returns whether there was room */
  async #append(
    half: number,
    offset: number,
    operations: readonly Operation[],
    whole: boolean,
  ): Promise<boolean> {
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

  /** Reads the half that was begun last, where the database lacks what it holds. */
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
      this.#take(record.operations.map(operationOf));
    }
  }
}

/** The file if it exists in its whole length; undefined: it does not, so nothing was ever written to it. */
async function openWhole(name: string, size: number): Promise<FileHandle | undefined> {
  let file: FileHandle;
  try {
    file = await openForWriting(name);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") {
      return undefined;
    }
    throw error;
  }
  if ((await file.stat()).size === size) {
    return file;
  }
  await file.close();
  return undefined;
}

/** Opens a file to read and write; on a read-only file system to read alone. @throws Node's error */
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

/** The records of a half up to where they end, from one that is whole. */
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
