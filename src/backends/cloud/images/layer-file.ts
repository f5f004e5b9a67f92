/** A layer for upload: a file with its digest. */
import { createHash, randomUUID } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { rm, stat } from "node:fs/promises";
import path from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";

import { compressedLayer, type LayerCompression } from "../../images/compressed-layer.ts";
import { compressionOfFile } from "../../images/layer-blobs.ts";
import type { Compression } from "../../images/layer-content.ts";

/** A file to upload; disposing removes it if it is temporary. */
export interface LayerFile extends AsyncDisposable {
  readonly path: string;
  readonly digest: string;
  readonly size: number;
  readonly compression: Compression;
}

/**
 * The file of a layer's blob; an uncompressed one is first compressed into a directory, as every task that runs the
 * image downloads it.
 *
 * @param blob the blob's path and digest
 */
export async function layerFile(
  blob: { readonly path: string; readonly digest: string },
  directory: string,
  compression: LayerCompression,
  signal: AbortSignal,
): Promise<LayerFile> {
  const itsOwn = await compressionOfFile(blob.path);
  if (itsOwn !== undefined) {
    const { size } = await stat(blob.path);
    return { ...blob, size, compression: itsOwn, [Symbol.asyncDispose]: async () => {} };
  }
  const file = path.join(directory, randomUUID());
  const remove = (): Promise<void> => rm(file, { force: true });
  const hash = createHash("sha256");
  let size = 0;
  const counted = new Transform({
    transform(chunk: Buffer, _, done) {
      hash.update(chunk);
      size += chunk.length;
      done(null, chunk);
    },
  });
  try {
    const target = createWriteStream(file, { flags: "wx", mode: 0o600 });
    await pipeline(compressedLayer(createReadStream(blob.path), compression), counted, target, { signal });
  } catch (error) {
    await remove();
    throw error;
  }
  const digest = `sha256:${hash.digest("hex")}`;
  return { path: file, digest, size, compression, [Symbol.asyncDispose]: remove };
}
