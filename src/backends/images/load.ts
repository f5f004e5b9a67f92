/**
 * `docker load`: turns a docker archive, current or from before Docker 1.10, or an OCI layout into images. Everything
 * is read and checked before the first image is installed; a stream that is cut or damaged leaves nothing.
 */
import { invalid } from "../../common/errors.ts";
import { getOrInsert } from "../../common/get-or-insert.ts";
import { sizeOfJson } from "../../common/json-values.ts";
import { shortId } from "../../common/ids.ts";
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ArchiveFiles } from "./archive-reader.ts";
import {
  type ArchiveContext,
  type ArchivedImage,
  mostDocumentBytes,
  mostDocumentValues,
  tooLarge,
} from "./archived-image.ts";
import type { BlobLease, ContentStore, StoredBlob } from "./content-store.ts";
import { readDockerArchive } from "./docker-archive.ts";
import { HeldDocuments, objectBytes } from "./held-documents.ts";
import { imageEvent } from "./image-events.ts";
import type { ImageInstaller, ImageToInstall, InstalledLayer } from "./image-installer.ts";
import { type ManifestLayer, writeManifest } from "./image-manifest-writer.ts";
import type { LayerBlob } from "./layer-blobs.ts";
import { type LayerMeasure, measureLayer } from "./layer-content.ts";
import { readLegacyArchive } from "./legacy-archive.ts";
import { readOciLayout } from "./oci-layout.ts";
import { maxJsonBytes } from "./manifest.ts";
import type { ReportProgress } from "./progress.ts";
import { familiarString, type NamedReference, parseNamed } from "./reference.ts";

/** A line of the answer: a loaded name, or the ID of an image without one. */
export interface LoadedImageName {
  readonly reference: string;
  readonly imageId: string;
}

/** A request to load. */
export interface LoadRequest {
  /** Stores the archive's files under the lease. @throws invalid: damaged; unavailable; the signal's reason */
  readonly read: (lease: BlobLease, documents: HeldDocuments) => Promise<ArchiveFiles>;
  readonly platform: Platform | undefined;
  /** True for a builder's intermediate state, hidden from users. */
  readonly ofBuild?: boolean;
  /** Finds a layer that the archive omits, and holds it by the lease; see {@link ArchiveContext}. */
  readonly findLayer: (
    lease: BlobLease,
    ...layer: Parameters<ArchiveContext["findLayer"]>
  ) => ReturnType<ArchiveContext["findLayer"]>;
  /** The ID of the image with a name. */
  readonly holderOf: (name: NamedReference) => string | undefined;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

/**
 * Loads an archive under a lease.
 *
 * @throws invalid: damaged or incomplete, in moby's words; the driver's error
 */
export async function loadArchive(
  store: ContentStore,
  installer: ImageInstaller,
  lease: BlobLease,
  request: LoadRequest,
): Promise<LoadedImageName[]> {
  using documents = new HeldDocuments();
  const files = await request.read(lease, documents);
  const { platform, report, signal } = request;
  const measures = new Map<string, Promise<LayerMeasure>>();
  const measureOnce = async (blob: StoredBlob): Promise<LayerMeasure> => {
    signal.throwIfAborted();
    const measure = await measureLayer(blob, store.stream(blob.digest, signal), signal);
    report({ id: shortId(measure.diffId), status: "Loading layer", current: blob.size, total: blob.size });
    return measure;
  };
  const omitted = new Map<string, Promise<LayerBlob | undefined>>();
  let [documentBytes, documentValues] = [0, 0];
  const hold = (bytes: number): void => {
    documentBytes += bytes;
    if (documentBytes > mostDocumentBytes) {
      throw tooLarge();
    }
    documents.take(bytes);
  };
  const context: ArchiveContext = {
    store,
    lease,
    platform,
    readDocument: async (blob) => {
      hold(Math.min(blob.size, maxJsonBytes));
      const bytes = await store.read(blob.digest, maxJsonBytes);
      documentValues += sizeOfJson(bytes).total;
      if (documentValues > mostDocumentValues) {
        throw tooLarge();
      }
      hold(objectBytes(bytes));
      return bytes;
    },
    hold,
    measure: (blob) => getOrInsert(measures, blob.digest, () => measureOnce(blob)),
    findLayer: (diffId, stack) => getOrInsert(omitted, diffId, () => request.findLayer(lease, diffId, stack)),
  };
  const manifest = files.find("manifest.json");
  const index = files.find("index.json");
  const isLegacy = manifest === undefined && index === undefined;
  let archived: ArchivedImage[];
  if (manifest !== undefined) {
    archived = await readDockerArchive(files, manifest, context);
  } else if (index !== undefined) {
    archived = await readOciLayout(files, index, context);
  } else {
    archived = await readLegacyArchive(files, context);
  }
  const images: ImageToInstall[] = [];
  for (const image of archived) {
    const toInstall = await checked(context, image, request.ofBuild === true);
    // Docker reports a legacy archive's images neither in the answer nor by events.
    images.push(isLegacy ? { ...toInstall, events: [] } : toInstall);
  }
  for (const { id, names } of images) {
    for (const name of names.map((each) => parseNamed(each))) {
      const holder = request.holderOf(name);
      if (holder !== undefined && holder !== id) {
        const status = `The image ${familiarString(name)} already exists, renaming the old one with ID ${holder} to empty string`;
        report({ id: "", status });
      }
    }
  }
  await installer.install(images, signal);
  return isLegacy ? [] : images.flatMap(namesOf);
}

function namesOf({ id, names }: ImageToInstall): LoadedImageName[] {
  return names.length === 0
    ? [{ reference: "", imageId: id }]
    : names.map((name) => ({ reference: familiarString(parseNamed(name)), imageId: id }));
}

async function checked(
  { store, lease, measure }: ArchiveContext,
  image: ArchivedImage,
  ofBuild: boolean,
): Promise<ImageToInstall> {
  const layers: (InstalledLayer & ManifestLayer)[] = [];
  for (const [index, layer] of image.layers.entries()) {
    if ("diffId" in layer) {
      layers.push({ ...layer, digest: layer.blob.digest });
      continue;
    }
    const blob = layer;
    const { diffId, size, compression } = await measure(blob);
    const expected = image.config.diffIds[index];
    if (expected !== diffId) {
      throw invalid(`invalid diffID for layer ${index}: expected "${expected}", got "${diffId}"`);
    }
    layers.push({ diffId, digest: blob.digest, size, blob, compression });
  }
  const id = image.configBlob.digest;
  return {
    id,
    config: image.config,
    ...(image.manifest ?? (await writeManifest(store, lease, image.configBlob, layers))),
    layers,
    hasLayers: true,
    names: image.names,
    ...(image.parentId === undefined ? {} : { parentId: image.parentId }),
    digests: [],
    ofBuild,
    events: ofBuild ? [] : [imageEvent("load", id, id, image.config)],
  };
}
