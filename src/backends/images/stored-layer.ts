/** A layer that an archive omits because an image here has it. */
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { compressionOfBlob, type LayerBlob } from "./layer-blobs.ts";

/**
 * Finds a layer by its diff ID among the images that have it. The lease holds its blob.
 *
 * @returns undefined if none has fetched it
 */
export async function findStoredLayer(
  store: ContentStore,
  lease: BlobLease,
  records: readonly ImageRecord[],
  diffId: string,
): Promise<LayerBlob | undefined> {
  for (const record of records) {
    const index = record.diffIds.indexOf(diffId);
    if (record.layerSizes.length !== record.diffIds.length) {
      continue;
    }
    const digest = record.layerDigests[index] ?? "";
    lease.hold(digest);
    const blob = await store.find(digest);
    if (blob !== undefined) {
      const compression = await compressionOfBlob(store, digest);
      return { diffId, blob, compression, size: Number(record.layerSizes[index]) };
    }
  }
  return undefined;
}
