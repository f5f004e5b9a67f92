/**
 * `docker load`: a docker archive or an OCI layout becomes images. Everything is read and checked before the first image
 * is installed; a stream that is cut or broken leaves nothing.
 */
import { invalid } from "../../../common/errors.ts";
import { shortId } from "../../../common/ids.ts";
import type { Platform } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { readArchive } from "./archive-reader.ts";
import type { ArchiveContext, ArchivedImage } from "./archived-image.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { readDockerArchive } from "./docker-archive.ts";
import { imageEvent } from "./image-events.ts";
import type { ImageInstaller, ImageToInstall, InstalledLayer } from "./image-installer.ts";
import { type ManifestLayer, writeManifest } from "./image-manifest-writer.ts";
import { measureLayer } from "./layer-content.ts";
import { readOciLayout } from "./oci-layout.ts";
import type { ReportProgress } from "./progress.ts";
import { familiarString, parseNamed } from "./reference.ts";

/** One line of the answer: a name that was loaded, or the ID of an image without one. */
export interface LoadedImageName {
  readonly reference: string;
  readonly imageId: string;
}

/** A load to be done. */
export interface LoadRequest {
  /** Fails where the signal aborts. */
  readonly archive: AsyncIterable<Uint8Array>;
  readonly platform: Platform | undefined;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

/**
 * Loads an archive under a lease.
 *
 * @throws invalid: broken or incomplete, in moby's words; what the driver throws
 */
export async function loadArchive(
  store: ContentStore,
  installer: ImageInstaller,
  lease: BlobLease,
  request: LoadRequest,
): Promise<LoadedImageName[]> {
  const files = await readArchive(store, lease, request.archive);
  const context: ArchiveContext = { store, platform: request.platform };
  const manifest = files.find("manifest.json");
  const index = files.find("index.json");
  let archived: ArchivedImage[];
  if (manifest !== undefined) {
    archived = await readDockerArchive(files, manifest, context);
  } else if (index !== undefined) {
    archived = await readOciLayout(files, index, context);
  } else {
    throw invalid("invalid archive: open manifest.json: no such file or directory");
  }
  const images: ImageToInstall[] = [];
  for (const image of archived) {
    images.push(await checked(store, lease, image, request));
  }
  await installer.install(images, request.signal);
  return images.flatMap(({ id, names }) =>
    names.length === 0
      ? [{ reference: "", imageId: id }]
      : names.map((name) => ({ reference: familiarString(parseNamed(name)), imageId: id })),
  );
}

async function checked(
  store: ContentStore,
  lease: BlobLease,
  image: ArchivedImage,
  request: LoadRequest,
): Promise<ImageToInstall> {
  const layers: (InstalledLayer & ManifestLayer)[] = [];
  for (const [index, blob] of image.layers.entries()) {
    request.signal.throwIfAborted();
    const { diffId, size, compression } = await measureLayer(blob, store.stream(blob.digest, request.signal));
    const expected = image.config.diffIds[index];
    if (expected !== diffId) {
      throw invalid(`invalid diffID for layer ${index}: expected "${expected}", got "${diffId}"`);
    }
    layers.push({ diffId, digest: blob.digest, size, blob, compression });
    request.report({ id: shortId(diffId), status: "Loading layer", current: blob.size, total: blob.size });
  }
  const id = image.configBlob.digest;
  return {
    id,
    config: image.config,
    ...(image.manifest ?? (await writeManifest(store, lease, image.configBlob, layers))),
    layers,
    hasLayers: true,
    names: image.names,
    digests: [],
    events: [imageEvent("load", id, id, image.config)],
  };
}
