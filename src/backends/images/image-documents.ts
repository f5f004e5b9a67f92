/** An image's configuration and manifest, without its layers: what agents store of it, and restore. */
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { type ImageConfig, parseImageConfig } from "./image-config.ts";

/** The two blobs that identify an image. */
export interface ImageDocuments {
  readonly config: Uint8Array;
  readonly manifest: Uint8Array;
}

/** @returns undefined if they do not exist, or have more bytes in total */
export async function readDocuments(
  content: ContentStore,
  { id, manifestDigest }: ImageRecord,
  mostBytes: number,
): Promise<ImageDocuments | undefined> {
  if (manifestDigest === "") {
    return undefined; // Removed by force: only its container still refers to it.
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
 * Stores the documents durably.
 *
 * @throws invalid if they are not those that the record names
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
