/**
 * Finds damaged blocks in LevelDB's tables. LevelDB does not verify their checksums itself: a flipped bit ends up in a
 * record.
 *
 * A table consists of blocks, each followed by its type and a masked CRC-32C of both, and a footer with the position of
 * the index, which has those of the other blocks (https://github.com/google/leveldb/blob/main/doc/table_format.md).
 */
import { BinaryReader } from "@bufbuild/protobuf/wire";

import { maskedCrc32c } from "../../common/crc32c.ts";
import { uncompressed } from "./snappy.ts";

const trailerBytes = 5;
const footerBytes = 48;
const magic = 0xdb4775248b80fb57n;
const snappyType = 1;
/** A block type that LevelDB rejects. */
const refusedType = 0xff;

/** A block without its trailer. */
interface Place {
  readonly offset: number;
  readonly size: number;
}

/** Records; the Bloom filter of their keys; or the index of what is neither, which names the filter. */
interface Block extends Place {
  readonly kind: "data" | "filter" | "meta";
}

/**
 * Finds the damaged blocks of a table.
 *
 * @returns undefined if its footer or index is damaged, so that no block can be found
 */
export function damagedBlocks(table: Buffer): readonly Block[] | undefined {
  const blocks = blocksOf(table);
  return blocks?.filter((block) => !isWhole(table, block));
}

/**
 * Hides damaged blocks from LevelDB: it rejects those with records, and does without the filter, which nothing else would
 * ever write anew.
 */
export function hideBlocks(table: Buffer, damaged: readonly Block[]): void {
  for (const { offset, size } of damaged.filter(({ kind }) => kind === "data")) {
    table.writeUInt8(refusedType, offset + size);
  }
  if (damaged.some(({ kind }) => kind !== "data")) {
    for (const { kind, offset, size } of blocksOf(table)?.filter(({ kind }) => kind !== "data") ?? []) {
      const end = offset + size + 1;
      if (kind === "meta") {
        table.fill(0, offset, end); // A block without entries: restart points, and their number.
        table.writeUInt32LE(Math.floor(size / 4) - 1, end - 5);
      }
      table.writeUInt32LE(maskedCrc32c(table.subarray(offset, end)), end);
    }
  }
}

/** All blocks except the index, in order; undefined if the footer or the index is damaged. */
function blocksOf(table: Buffer): readonly Block[] | undefined {
  const end = table.length - footerBytes;
  if (end < 0 || table.readBigUInt64LE(table.length - 8) !== magic) {
    return undefined;
  }
  try {
    const footer = new BinaryReader(table.subarray(end));
    const [meta, index] = [handle(footer), handle(footer)];
    const isInPlace = endOf(meta) === index.offset && endOf(index) === end;
    if (!isInPlace || !isWhole(table, index)) {
      return undefined;
    }
    const data = handlesIn(contentOf(table, index));
    const dataEnd = Math.max(0, ...data.map(endOf));
    const filter = { offset: dataEnd, size: meta.offset - dataEnd - trailerBytes };
    return [
      ...data.map((each) => ({ ...each, kind: "data" as const })),
      ...(filter.size < 0 ? [] : [{ ...filter, kind: "filter" as const }]),
      { ...meta, kind: "meta" },
    ];
  } catch {
    return undefined; // An unterminated varint.
  }
}

function handle(reader: BinaryReader): Place {
  return { offset: reader.uint32(), size: reader.uint32() };
}

/** Offset after a block and its trailer. */
function endOf({ offset, size }: Place): number {
  return offset + size + trailerBytes;
}

/** The handles in an index: entries of a key and a handle, then the offsets of restart points and their number. */
function handlesIn(index: Buffer): readonly Place[] {
  const restarts = index.readUInt32LE(index.length - 4);
  const end = index.length - 4 * (restarts + 1);
  const reader = new BinaryReader(index);
  const handles: Place[] = [];
  while (reader.pos < end) {
    const [, keyBytes] = [reader.uint32(), reader.uint32(), reader.uint32()];
    reader.pos += keyBytes;
    handles.push(handle(reader));
  }
  return handles;
}

function isWhole(table: Buffer, { offset, size }: Place): boolean {
  const end = offset + size + 1;
  return maskedCrc32c(table.subarray(offset, end)) === table.readUInt32LE(end);
}

function contentOf(table: Buffer, { offset, size }: Place): Buffer {
  const content = table.subarray(offset, offset + size);
  return table.readUInt8(offset + size) === snappyType ? uncompressed(content) : content;
}
