/**
 * Compressed content, detected by its first bytes: never by a name or media type, as old archives and registries label
 * it wrongly.
 */
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { constants, createGunzip, createZstdDecompress, type Gunzip, type ZstdDecompress } from "node:zlib";

import { errnoOf, invalid, messageOf, unavailable } from "../../common/errors.ts";

import { Limiter } from "../concurrency/limiter.ts";
import type { StoredBlob } from "./content-store.ts";
import type { TarCheck } from "./tar-check.ts";

/** The compression of content; `undefined`: none detected. */
export type Compression = "gzip" | "zstd" | "bzip2" | "xz" | undefined;

/** Size limit for an uncompressed layer in bytes: a few kilobytes of gzip can expand to any size. */
const maxUnpackedBytes = 256 * 1024 ** 3;

/** First bytes of each format. */
const magicNumbers: readonly (readonly [Exclude<Compression, undefined>, readonly number[]])[] = [
  ["gzip", [0x1f, 0x8b, 0x08]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
  ["bzip2", [0x42, 0x5a, 0x68]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
];

/** As many as the longest of {@link magicNumbers}, and the header of a zstd frame up to its content's size. */
const sniffedBytes = 18;

/**
 * Logarithms of the largest windows of zstd in bytes: what `zstd --ultra --long` writes, and what all levels without
 * `--ultra` and other encoders do.
 */
const largestWindowLog = 27;
const usualWindowLog = 25;

/** Bytes of all windows of zstd in this process: a frame of a few kilobytes can demand one for as long as its sender likes. */
let freeWindowBytes = 1024 ** 3;

/** Output per read: Node's default is 16 KiB, and each read costs a turn of its thread pool. */
const inflatedChunkBytes = 128 * 1024;

/** Layers that are inflated at a time, in Node's pool of four threads, for which commits and reads of files wait too. */
export const inflatedAtOnce = 3;
const inflations = new Limiter(inflatedAtOnce);
/** Uncompressed bytes of a layer after which the next one has its turn. */
const bytesOfTurn = 8 * 1024 ** 2;

/** Detects a compression by the first bytes of the content. */
export function compressionOf(start: Uint8Array): Compression {
  return magicNumbers.find(([, magic]) => magic.every((byte, index) => start[index] === byte))?.[0];
}

/** Facts about a layer's uncompressed content. */
export interface LayerMeasure {
  /** Digest of the uncompressed tar. */
  readonly diffId: string;
  /** Bytes of the uncompressed tar. */
  readonly size: number;
  readonly compression: Compression;
}

/**
 * Reads a layer's blob to its end and measures its uncompressed content. An uncompressed blob is its own content, and
 * is only read if there is a check.
 *
 * @param signal ends the reading: a few kilobytes may unpack for minutes
 * @param check receives the content
 * @throws invalid: damaged, too large, or an unsupported compression; the check's error; the signal's reason
 */
export async function measureLayer(
  blob: StoredBlob,
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
  check?: TarCheck,
): Promise<LayerMeasure> {
  const { compression, content, abandon } = await decompressed(source);
  await using owned = new AsyncDisposableStack();
  owned.defer(abandon); // Content that nobody has begun to read does not end its source.
  if (compression === undefined) {
    if (check !== undefined) {
      for await (const chunk of content) {
        signal.throwIfAborted();
        check.write(chunk);
      }
      check.end();
    }
    return { diffId: blob.digest, size: blob.size, compression };
  }
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of inTurns(content, signal)) {
    signal.throwIfAborted();
    size += chunk.length;
    if (size > maxUnpackedBytes) {
      throw invalid(`layer unpacks to more than ${maxUnpackedBytes} bytes`);
    }
    hash.update(chunk);
    check?.write(chunk);
  }
  check?.end();
  return { diffId: `sha256:${hash.digest("hex")}`, size, compression };
}

/** Reads content that is inflated as it is read, in turns with that of all other layers. */
async function* inTurns(content: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const iterator = content[Symbol.asyncIterator]();
  try {
    for (;;) {
      using _turn = await inflations.acquire("", signal);
      for (let bytes = 0; bytes < bytesOfTurn; ) {
        const next = await iterator.next();
        if (next.done === true) {
          return;
        }
        bytes += next.value.length;
        yield next.value;
      }
    }
  } finally {
    await iterator.return?.();
  }
}

/** The content of a stream that may be compressed. */
export interface DecompressedStream {
  readonly compression: Compression;
  readonly content: AsyncIterable<Uint8Array>;
  /** Ends the source, if the content is not read. */
  abandon(): Promise<void>;
}

/**
 * Detects a stream's compression and decompresses it. Errors of the source pass through; damaged content and
 * unsupported formats are `invalid`.
 */
export async function decompressed(source: AsyncIterable<Uint8Array>): Promise<DecompressedStream> {
  const { start, whole, abandon } = await peeked(source);
  const compression = compressionOf(start);
  switch (compression) {
    case undefined:
      return { compression, content: whole, abandon };
    case "gzip": {
      const inflater = createGunzip({ chunkSize: inflatedChunkBytes });
      return { compression, content: inflated(whole, compression, inflater), abandon };
    }
    case "zstd":
      return { compression, content: unzstd(start, whole), abandon };
    default:
      await abandon();
      throw invalid(
        `archives compressed with ${compression} are not supported: use gzip, zstd or no compression`,
      );
  }
}

/**
 * Logarithm of the window to count for a zstd stream: its first frame tells its window, and a later frame may have no
 * larger one (RFC 8878, section 3.1.1.1).
 */
function windowLogOf(start: Buffer): number {
  const descriptor = start[4] ?? 0;
  if ((descriptor & 0x20) === 0) {
    return 10 + ((start[5] ?? 0) >> 3) < usualWindowLog ? usualWindowLog : largestWindowLog;
  }
  // The window is as large as the content, whose size follows a dictionary's ID.
  const at = 5 + ([0, 1, 2, 4][descriptor & 3] ?? 0);
  const isSmall =
    descriptor >> 6 < 2 || (descriptor >> 6 === 2 && start.readUInt32LE(at) <= 2 ** usualWindowLog);
  return isSmall ? usualWindowLog : largestWindowLog;
}

async function* unzstd(start: Uint8Array, source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  const windowLog = windowLogOf(Buffer.concat([start, Buffer.alloc(sniffedBytes)]));
  if (freeWindowBytes < 2 ** windowLog) {
    throw unavailable("too many zstd streams are being decompressed: try again later");
  }
  freeWindowBytes -= 2 ** windowLog;
  try {
    const params = { [constants.ZSTD_d_windowLogMax]: windowLog };
    yield* inflated(source, "zstd", createZstdDecompress({ chunkSize: inflatedChunkBytes, params }));
  } finally {
    freeWindowBytes += 2 ** windowLog;
  }
}

async function* inflated(
  source: AsyncIterable<Uint8Array>,
  format: "gzip" | "zstd",
  inflater: Gunzip | ZstdDecompress,
): AsyncGenerator<Buffer> {
  const input = Readable.from(source, { objectMode: false });
  let sourceError: Error | undefined;
  input.once("error", (error) => {
    sourceError = error;
    inflater.destroy(error);
  });
  try {
    for await (const chunk of input.pipe(inflater)) {
      yield chunk as Buffer;
    }
  } catch (error) {
    if (sourceError !== undefined) {
      throw sourceError;
    }
    throw inflationError(error, format);
  } finally {
    input.destroy();
    inflater.destroy();
  }
}

function inflationError(error: unknown, format: string): unknown {
  const code = errnoOf(error) ?? "";
  if (code === "Z_BUF_ERROR" || code === "ZSTD_error_srcSize_wrong") {
    return invalid("unexpected EOF", error);
  }
  return code.startsWith("Z") ? invalid(`${format}: ${messageOf(error)}`, error) : error;
}

/** The first bytes of a stream, and the whole stream including them. */
interface PeekedStream {
  readonly start: Uint8Array;
  readonly whole: AsyncIterable<Uint8Array>;
  /** Ends the source without reading it. */
  abandon(): Promise<void>;
}

/** Reads as much of a stream as is needed to detect its compression. */
export async function peeked(source: AsyncIterable<Uint8Array>): Promise<PeekedStream> {
  const iterator = source[Symbol.asyncIterator]();
  const held: Uint8Array[] = [];
  let length = 0;
  let ended = false;
  while (length < sniffedBytes && !ended) {
    const next = await iterator.next();
    if (next.done === true) {
      ended = true;
    } else {
      held.push(next.value);
      length += next.value.length;
    }
  }
  const abandon = async (): Promise<void> => {
    if (!ended) {
      ended = true;
      await iterator.return?.();
    }
  };
  async function* whole(): AsyncGenerator<Uint8Array> {
    try {
      yield* held;
      while (!ended) {
        const next = await iterator.next();
        if (next.done === true) {
          ended = true;
          return;
        }
        yield next.value;
      }
    } finally {
      await abandon();
    }
  }
  return { start: Buffer.concat(held), whole: whole(), abandon };
}
