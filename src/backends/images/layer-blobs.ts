/** The layers of an image in the content store. */
import { open } from "node:fs/promises";

import { conflict, systemError } from "../../common/errors.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ContentStore, StoredBlob } from "./content-store.ts";
import { type Compression, compressionOf } from "./layer-content.ts";

/** Enough bytes to detect a compression. */
const sniffedBytes = 16;

/** A layer. */
export interface LayerBlob {
  readonly diffId: string;
  readonly blob: StoredBlob;
  readonly compression: Compression;
  /** Bytes of the uncompressed tar. */
  readonly size: number;
}

/**
 * The layers of an image, bottom first. The caller holds them.
 *
 * @param known layers that were found before, by their blobs' digests; those found now are added
 * @throws conflict if they were never fetched (the cloud pulls them itself); system if one is missing
 */
export async function layerBlobs(
  store: ContentStore,
  record: ImageRecord,
  known = new Map<string, LayerBlob>(),
): Promise<LayerBlob[]> {
  if (record.layerSizes.length !== record.diffIds.length) {
    throw conflict(`the layers of image ${record.id} are not on this backend`);
  }
  const layers: LayerBlob[] = [];
  for (const index of record.diffIds.keys()) {
    const digest = record.layerDigests[index] ?? "";
    let layer = known.get(digest);
    if (layer === undefined) {
      layer = await layerBlob(store, record, index);
      if (layer === undefined) {
        throw systemError(`layer ${digest} of image ${record.id} is missing from the content store`);
      }
      known.set(digest, layer);
    }
    layers.push(layer);
  }
  return layers;
}

/** One layer of an image whose layers were fetched, by its index; undefined if its blob is missing. The caller holds it. */
export async function layerBlob(
  store: ContentStore,
  record: ImageRecord,
  index: number,
): Promise<LayerBlob | undefined> {
  const diffId = record.diffIds[index] ?? "";
  const digest = record.layerDigests[index] ?? "";
  const blob = await store.find(digest);
  if (blob === undefined) {
    return undefined;
  }
  const compression = digest === diffId ? undefined : await compressionOfBlob(store, digest);
  return { diffId, blob, compression, size: Number(record.layerSizes[index]) };
}

/** Detects a blob's compression by its first bytes. */
export async function compressionOfBlob(store: ContentStore, digest: string): Promise<Compression> {
  return compressionOf(await store.beginning(digest, sniffedBytes));
}

/** Detects a file's compression by its first bytes. */
export async function compressionOfFile(file: string): Promise<Compression> {
  await using handle = await open(file);
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(sniffedBytes), 0, sniffedBytes, 0);
  return compressionOf(buffer.subarray(0, bytesRead));
}
