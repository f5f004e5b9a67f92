/** `docker save` and `docker load`. */
import { randomBytes } from "node:crypto";

import { systemError } from "../../common/errors.ts";
import { onAbort } from "../../common/on-abort.ts";
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ArchivePart } from "../driver/archives.ts";
import type { ImagePreparer } from "../driver/images.ts";
import { blobsOf } from "../state/image-table.ts";
import { abortable } from "./abortable-stream.ts";
import { type ArchiveFiles, readArchive, takeEntries } from "./archive-reader.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { HeldDocuments } from "./held-documents.ts";
import type { ImageCatalog } from "./image-catalog.ts";
import type { ImageConfigs } from "./image-configs.ts";
import { imageEvent } from "./image-events.ts";
import type { ImageIndex } from "./image-index.ts";
import type { ImageInstaller } from "./image-installer.ts";
import {
  archiveBytes,
  archiveParts,
  imagesToSave,
  keptBytes,
  prepareSave,
  type SavedImage,
} from "./image-save.ts";
import type { HeldContent, ImageWork } from "./image-work.ts";
import type { LayerBlob } from "./layer-blobs.ts";
import type { LayerSupply } from "./layer-supply.ts";
import { takeUpload, type UploadPlace } from "./layer-upload.ts";
import { loadArchive, type LoadedImageName, type LoadRequest } from "./load.ts";
import { maxJsonBytes } from "./manifest.ts";

/** Size limit in bytes for the parts besides layers of an archive served by a driver. */
const offeredBytes = 16 * 1024 * 1024;

/** Dependencies of archives. */
export interface ArchiveParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly catalog: ImageCatalog;
  readonly installer: ImageInstaller;
  readonly preparer: ImagePreparer;
  readonly supply: LayerSupply;
  readonly work: ImageWork;
}

/** A request to load an archive. */
type ArchiveRequest = Omit<LoadRequest, "read" | "findLayer" | "holderOf">;

/** A load of an archive that passes through this process. */
type StreamLoadRequest = ArchiveRequest & { readonly archive: AsyncIterable<Uint8Array> };

/** Saves images as archives, and loads them. */
export class ImageArchives {
  readonly #parts: ArchiveParts;
  /** Layers uploaded separately, for archives that omit them. */
  readonly #received = new Set<LayerBlob>();

  constructor(parts: ArchiveParts) {
    this.#parts = parts;
  }

  /**
   * Writes images as one archive; see {@link archiveParts}. Names, digests and IDs are resolved at once. As in dockerd,
   * the event precedes the archive.
   *
   * @throws as {@link ImageCatalog.find}, {@link prepareSave} and {@link HeldDocuments.take}, before the first byte
   */
  async *save(
    references: readonly string[],
    platform: Platform | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const { content, index, work } = this.#parts;
    await using held = work.hold(signal);
    using documents = new HeldDocuments();
    const { prepared, events } = await this.#prepareSave(references, platform, held, documents);
    await index.commit({ events });
    yield* archiveBytes(content, archiveParts(content, prepared), held.signal);
  }

  /**
   * Like {@link save}, but served by the driver: yields the address of the archive, which is valid until the signal
   * aborts; yields nothing if the driver cannot serve it.
   *
   * @throws as {@link save}; the signal's reason
   */
  async *offer(
    references: readonly string[],
    platform: Platform | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<UploadPlace> {
    const { content, index, preparer, work } = this.#parts;
    const { downloads } = preparer;
    if (downloads.kind === "relayed") {
      return;
    }
    await using held = work.hold(signal);
    using documents = new HeldDocuments();
    const { prepared, events } = await this.#prepareSave(references, platform, held, documents);
    const parts = await offerable(archiveParts(content, prepared), documents);
    if (parts === undefined) {
      return;
    }
    await index.commit({ events });
    const uploadId = randomBytes(32).toString("hex");
    const blobPath = (digest: string): string => content.path(digest);
    yield { uploadId, address: await downloads.offer(uploadId, parts, blobPath, held.signal) };
    await aborted(held.signal);
  }

  /** The images of an archive, held, with a save's events. */
  async #prepareSave(
    references: readonly string[],
    platform: Platform | undefined,
    { lease, signal }: HeldContent,
    documents: HeldDocuments,
  ) {
    const { content, index, configs, catalog, supply } = this.#parts;
    const images = imagesToSave(index, references, (reference) => catalog.find(reference, platform));
    for (const image of images) {
      documents.take(keptBytes(image));
      lease.hold(...blobsOf(image.record));
    }
    const whole: SavedImage[] = [];
    for (const image of images) {
      whole.push({ ...image, record: await supply.complete(lease, image.record, signal) });
    }
    const prepared = await prepareSave(content, whole);
    const events = images.map(({ record: { id } }) => imageEvent("save", id, id, configs.find(id)));
    return { prepared, events };
  }

  /** An image's configuration in its original bytes. @throws as {@link ImageCatalog.find} */
  configOf(reference: string): Promise<Buffer> {
    const { content, catalog } = this.#parts;
    return content.read(catalog.find(reference).id, maxJsonBytes);
  }

  /** Loads an archive; see {@link loadArchive}. */
  load({ archive, ...request }: StreamLoadRequest): Promise<LoadedImageName[]> {
    const { content } = this.#parts;
    return this.#load(request, (lease, documents, signal) =>
      readArchive(content, lease, documents, abortable(archive, signal)),
    );
  }

  /**
   * Loads an archive that is uploaded to the driver.
   *
   * @param ready called with the address for the upload
   */
  receive(ready: (place: UploadPlace) => void, request: ArchiveRequest): Promise<LoadedImageName[]> {
    const { content, preparer } = this.#parts;
    return this.#load(request, async (lease, documents, signal) => {
      const { uploads } = preparer;
      if (uploads.kind === "relayed") {
        throw systemError("archives come through this process");
      }
      const uploadId = randomBytes(32).toString("hex");
      await using reserved = content.reserve();
      await using upload = await uploads.expectArchive(uploadId, reserved.path, signal);
      ready({ address: upload.address, uploadId });
      return await takeEntries(reserved, lease, documents, upload.entries);
    });
  }

  #load(
    request: ArchiveRequest,
    read: (lease: BlobLease, documents: HeldDocuments, signal: AbortSignal) => Promise<ArchiveFiles>,
  ): Promise<LoadedImageName[]> {
    const { content, index, installer, supply, work } = this.#parts;
    return work.run(request.signal, (lease, signal) =>
      loadArchive(content, installer, lease, {
        ...request,
        read: (held, documents) => read(held, documents, signal),
        findLayer: (held, diffId, stack) =>
          this.#receivedLayer(held, diffId) ?? supply.find(held, diffId, stack, signal),
        holderOf: (name) => index.named(name)?.id,
        signal,
      }),
    );
  }

  get takesUploads(): boolean {
    return this.#parts.preparer.uploads.kind === "direct";
  }

  /**
   * Receives a layer that is uploaded to the driver, see {@link takeUpload}; until the signal aborts, archives may omit
   * it.
   *
   * @param ready called with the address for the upload
   * @param taken called with its diff ID once it is stored
   * @throws as {@link takeUpload}; the signal's reason
   */
  receiveLayer(
    ready: (place: UploadPlace) => void,
    taken: (diffId: string) => void,
    asked: AbortSignal,
  ): Promise<never> {
    const { content, preparer, work } = this.#parts;
    return work.run(asked, async (lease, signal) => {
      const { uploads } = preparer;
      if (uploads.kind === "relayed") {
        throw systemError("layers come with their archives");
      }
      await using owner = new AsyncDisposableStack();
      const layer = await takeUpload(content, lease, uploads.expect, owner, ready, signal);
      this.#received.add(layer);
      owner.defer(() => void this.#received.delete(layer));
      taken(layer.diffId);
      return await aborted(signal);
    });
  }

  /** A layer that was uploaded separately; the lease now holds its blob. */
  #receivedLayer(lease: BlobLease, diffId: string): Promise<LayerBlob> | undefined {
    const layer = [...this.#received].find((each) => each.diffId === diffId);
    if (layer === undefined) {
      return undefined;
    }
    lease.hold(layer.blob.digest);
    return Promise.resolve(layer);
  }
}

/** The parts of an archive; undefined if too many bytes are not layers. */
async function offerable(
  parts: AsyncIterable<ArchivePart>,
  documents: HeldDocuments,
): Promise<ArchivePart[] | undefined> {
  const few: ArchivePart[] = [];
  let bytes = 0;
  for await (const part of parts) {
    const length = part.kind === "bytes" ? part.bytes.length : 0;
    bytes += length;
    if (bytes > offeredBytes) {
      return undefined;
    }
    documents.take(length);
    few.push(part);
  }
  return few;
}

/** Waits until a signal aborts. @throws its reason */
async function aborted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  using _waiting = onAbort(signal, () => reject(signal.reason as Error));
  return await promise;
}
