/**
 * Parallel gzip: blocks are compressed concurrently, each with the end of the previous one as its dictionary, and form
 * a single member, as written by `pigz`. Equal content gives equal bytes.
 */
import { constants, crc32, deflateRaw } from "node:zlib";
import { promisify } from "node:util";

import { Limiter } from "../concurrency/limiter.ts";

const deflate = promisify(deflateRaw);

const blockBytes = 512 * 1024;
/** Deflate's window. */
const windowBytes = 32 * 1024;
/** Blocks of all streams compressed at a time: Node's thread pool has four threads, and files and the state need one. */
const blocksAtOnce = 3;
const turns = new Limiter(blocksAtOnce);
/** Bytes from a block's middle to compress first, as a test whether the block is compressible. */
const sampledBytes = 16 * 1024;
/** Ratio above which a sample counts as noise, or already compressed. */
const noise = 0.98;

/** Method deflate; no name, no time, unknown system. */
const header = Uint8Array.of(0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0xff);

/** Compresses a stream. Errors of the source pass through. */
export async function* gzipInParallel(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield header;
  const underWay: Promise<Uint8Array>[] = [];
  let dictionary: Buffer | undefined;
  let checksum = 0;
  let size = 0;
  try {
    for await (const block of blocksOf(source)) {
      checksum = crc32(block, checksum);
      size += block.length;
      const begun = compressed(block, dictionary);
      begun.catch(() => undefined); // A failure is thrown in turn, possibly much later.
      underWay.push(begun);
      dictionary = block.subarray(-windowBytes);
      if (underWay.length >= blocksAtOnce) {
        yield await next(underWay);
      }
    }
    while (underWay.length > 0) {
      yield await next(underWay);
    }
  } finally {
    await Promise.allSettled(underWay);
  }
  const end = Buffer.alloc(10);
  end[0] = 0b11; // A final, empty block with fixed codes.
  end.writeUInt32LE(checksum, 2);
  end.writeUInt32LE(size % 2 ** 32, 6);
  yield end;
}

async function next(underWay: Promise<Uint8Array>[]): Promise<Uint8Array> {
  const [oldest] = underWay;
  const bytes = (await oldest) ?? new Uint8Array();
  underWay.shift();
  return bytes;
}

/** A byte-aligned block that does not end the stream. */
async function compressed(block: Buffer, dictionary: Buffer | undefined): Promise<Uint8Array> {
  using _turn = await turns.acquire("block"); // Without a signal: a block that is begun is completed.
  const middle = Math.max(0, (block.length - sampledBytes) >>> 1);
  const sample = block.subarray(middle, middle + sampledBytes);
  const tried = await deflate(sample, { level: constants.Z_BEST_SPEED });
  return await deflate(block, {
    level:
      tried.length > sample.length * noise ? constants.Z_NO_COMPRESSION : constants.Z_DEFAULT_COMPRESSION,
    finishFlush: constants.Z_SYNC_FLUSH,
    chunkSize: blockBytes + 1024,
    ...(dictionary === undefined ? {} : { dictionary }),
  });
}

/** Splits content into blocks of equal size, except for the last. */
export async function* blocksOf(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let parts: Uint8Array[] = [];
  let length = 0;
  for await (let chunk of source) {
    while (length + chunk.length >= blockBytes) {
      const rest = blockBytes - length;
      yield Buffer.concat([...parts, chunk.subarray(0, rest)], blockBytes);
      chunk = chunk.subarray(rest);
      parts = [];
      length = 0;
    }
    if (chunk.length > 0) {
      parts.push(chunk);
      length += chunk.length;
    }
  }
  if (length > 0) {
    yield Buffer.concat(parts, length);
  }
}
