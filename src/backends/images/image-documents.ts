/** An image's configuration and manifest, apart from its layers: what is kept of it elsewhere, and taken in again. */
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { type ImageConfig, parseImageConfig } from "./image-config.ts";

/** The two blobs that an image is known by. */
export interface ImageDocuments {
  readonly config: Uint8Array;
  readonly manifest: Uint8Array;
}

/** @returns undefined where they are not there, or have more bytes than that together */
export async function readDocuments(
  content: ContentStore,
  { id, manifestDigest }: ImageRecord,
  mostBytes: number,
): Promise<ImageDocuments | undefined> {
  if (manifestDigest === "") {
    return undefined; // Removed by force: its container alone remembers it.
  }
  const [config, manifest] = await Promise.all([content.find(id), content.find(manifestDigest)]);
  if (config === undefined || manifest === undefined || config.size + manifest.size > mostBytes) {
    return undefined;
  }
  return {
    config: await content.read(id, mostBytes),
    manifest: await content.read(manifestDigest, mostBytes),
  };
}

/**
 * Takes them in for good.
 *
 * @throws invalid: they are not those that the record names
 */
export async function storeDocuments(
  content: ContentStore,
  lease: BlobLease,
  { id, manifestDigest }: ImageRecord,
  { config, manifest }: ImageDocuments,
): Promise<ImageConfig> {
  const parsed = parseImageConfig(config);
  await content.putBytes(lease, config, { digest: id });
  await content.putBytes(lease, manifest, { digest: manifestDigest });
  await content.sync([id, manifestDigest]);
  return parsed;
}
