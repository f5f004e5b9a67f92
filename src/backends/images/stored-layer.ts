/** A layer that an archive omits because an image here has it. */
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { type LayerBlob, layerBlob } from "./layer-blobs.ts";

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
    if (record.layerSizes.length !== record.diffIds.length) {
      continue;
    }
    const index = record.diffIds.indexOf(diffId);
    lease.hold(record.layerDigests[index] ?? "");
    const layer = await layerBlob(store, record, index);
    if (layer !== undefined) {
      return layer;
    }
  }
  return undefined;
}
