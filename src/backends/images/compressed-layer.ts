/** Layers as registries and clouds get them. */
import { Readable, pipeline } from "node:stream";
import { constants, createZstdCompress } from "node:zlib";

import type { Compression } from "./layer-content.ts";
import { blocksOf, gzipInParallel } from "./parallel-gzip.ts";

/** A compression that layers are sent with. */
export type LayerCompression = Extract<Compression, "gzip" | "zstd">;

/** That of the `zstd` program. */
const zstdLevel = 3;

/** Compresses a layer; equal content gives equal bytes. Errors of the source pass through. */
export function compressedLayer(
  source: AsyncIterable<Uint8Array>,
  compression: LayerCompression,
): AsyncIterable<Uint8Array> {
  if (compression === "gzip") {
    return gzipInParallel(source);
  }
  const zstd = createZstdCompress({
    chunkSize: constants.Z_DEFAULT_CHUNK * 8,
    params: { [constants.ZSTD_c_compressionLevel]: zstdLevel, [constants.ZSTD_c_checksumFlag]: 1 },
  });
  // The output of zstd depends on how its input is cut. Errors reach the reader through the stream.
  return pipeline(Readable.from(blocksOf(source), { objectMode: false }), zstd, () => {});
}
