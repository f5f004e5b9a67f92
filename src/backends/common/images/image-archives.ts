/** `docker save` and `docker load`. */
import { systemError } from "../../../common/errors.ts";
import { onAbort } from "../../../common/on-abort.ts";
import type { Platform } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { ImagePreparer } from "../driver.ts";
import { abortable } from "./abortable-stream.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import type { ImageCatalog } from "./image-catalog.ts";
import type { ImageConfigs } from "./image-configs.ts";
import { imageEvent } from "./image-events.ts";
import { blobsOf, type ImageIndex } from "./image-index.ts";
import type { ImageInstaller } from "./image-installer.ts";
import { imagesToSave, type SavedImage, saveImages } from "./image-save.ts";
import type { ImageWork } from "./image-work.ts";
import type { LayerBlob } from "./layer-blobs.ts";
import type { LayerSupply } from "./layer-supply.ts";
import { takeUpload, type UploadPlace } from "./layer-upload.ts";
import { loadArchive, type LoadedImageName, type LoadRequest } from "./load.ts";
import { maxJsonBytes } from "./manifest.ts";

/** Parts of the images that archives are written and read with. */
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

/** Writes images as archives, and takes them from archives. */
export class ImageArchives {
  readonly #parts: ArchiveParts;
  /** Layers that have come by themselves and wait for the archives that leave them out. */
  readonly #received = new Set<LayerBlob>();

  constructor(parts: ArchiveParts) {
    this.#parts = parts;
  }

  /**
   * Writes images as one archive; see {@link saveImages}. Names, digests and IDs are looked up at once.
   *
   * @throws as {@link ImageCatalog.find}, before the first byte
   */
  async *save(
    references: readonly string[],
    platform: Platform | undefined,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const { content, index, configs, catalog, supply, work } = this.#parts;
    const images = imagesToSave(index, references, (reference) => catalog.find(reference, platform));
    await using held = work.hold(signal);
    held.lease.hold(...images.flatMap(({ record }) => blobsOf(record)));
    const whole: SavedImage[] = [];
    for (const image of images) {
      whole.push({ ...image, record: await supply.complete(held.lease, image.record, held.signal) });
    }
    yield* saveImages(content, whole, held.signal);
    const saved = ({ record }: SavedImage) =>
      imageEvent("save", record.id, record.id, configs.find(record.id));
    await index.commit({ events: images.map(saved) });
  }

  /** An image's configuration as it was written. Throws as {@link ImageCatalog.find}. */
  configOf(reference: string): Promise<Buffer> {
    const { content, catalog } = this.#parts;
    return content.read(catalog.find(reference).id, maxJsonBytes);
  }

  /** Loads an archive; see {@link loadArchive}. */
  load(request: Omit<LoadRequest, "findLayer" | "holderOf">): Promise<LoadedImageName[]> {
    const { content, index, installer, supply, work } = this.#parts;
    return work.run(request.signal, (lease, signal) =>
      loadArchive(content, installer, lease, {
        ...request,
        archive: abortable(request.archive, signal),
        findLayer: (held, diffId) => this.#receivedLayer(held, diffId) ?? supply.find(held, diffId, signal),
        holderOf: (name) => index.named(name)?.id,
        signal,
      }),
    );
  }

  /** Whether {@link receiveLayer} can be used. */
  get takesUploads(): boolean {
    return this.#parts.preparer.uploads.kind === "direct";
  }

  /**
   * Takes a layer in that goes to the driver, see {@link takeUpload}, and has it for archives that leave it out until the
   * signal aborts.
   *
   * @param ready is told where to send it
   * @param taken is told its diff ID, once it is there
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
      const { promise, reject } = Promise.withResolvers<never>();
      using _waiting = onAbort(signal, () => reject(signal.reason as Error));
      return await promise;
    });
  }

  /** A layer that has come by itself; the lease holds its blob from now on. */
  #receivedLayer(lease: BlobLease, diffId: string): Promise<LayerBlob> | undefined {
    const layer = [...this.#received].find((each) => each.diffId === diffId);
    if (layer === undefined) {
      return undefined;
    }
    lease.hold(layer.blob.digest);
    return Promise.resolve(layer);
  }
}
