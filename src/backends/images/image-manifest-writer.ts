/** Manifests for images without one (docker archives, imports), so that every image can be saved and pushed. */
import type { BlobLease, ContentStore, StoredBlob } from "./content-store.ts";
import type { Compression } from "./layer-content.ts";
import { mediaTypes } from "./manifest.ts";

/** A layer's blob, as listed in a manifest. */
export interface ManifestLayer {
  readonly blob: StoredBlob;
  readonly compression: Compression;
}

/** Writes an image's OCI manifest into the store and returns its digest; equal input gives an equal digest. */
export async function writeManifest(
  store: ContentStore,
  lease: BlobLease,
  config: StoredBlob,
  layers: readonly ManifestLayer[],
): Promise<{ readonly manifestDigest: string; readonly manifestMediaType: string }> {
  const { digest } = await store.putBytes(lease, renderManifest(config, layers));
  return { manifestDigest: digest, manifestMediaType: mediaTypes.ociManifest };
}

/** The bytes of an OCI manifest. */
export function renderManifest(config: StoredBlob, layers: readonly ManifestLayer[]): Uint8Array {
  const document = {
    schemaVersion: 2,
    mediaType: mediaTypes.ociManifest,
    config: { mediaType: mediaTypes.ociConfig, digest: config.digest, size: config.size },
    layers: layers.map(({ blob, compression }) => ({
      mediaType: mediaTypes.ociLayer + (compression === undefined ? "" : `+${compression}`),
      digest: blob.digest,
      size: blob.size,
    })),
  };
  return new TextEncoder().encode(JSON.stringify(document));
}
