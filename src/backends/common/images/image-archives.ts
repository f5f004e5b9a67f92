/** `docker save` and `docker load`. */
import type { Platform } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { abortable } from "./abortable-stream.ts";
import type { ContentStore } from "./content-store.ts";
import type { ImageCatalog } from "./image-catalog.ts";
import type { ImageConfigs } from "./image-configs.ts";
import { imageEvent } from "./image-events.ts";
import { blobsOf, type ImageIndex } from "./image-index.ts";
import type { ImageInstaller } from "./image-installer.ts";
import { imagesToSave, type SavedImage, saveImages } from "./image-save.ts";
import type { ImageWork } from "./image-work.ts";
import type { LayerSupply } from "./layer-supply.ts";
import { loadArchive, type LoadedImageName, type LoadRequest } from "./load.ts";
import { maxJsonBytes } from "./manifest.ts";

/** Parts of the images that archives are written and read with. */
export interface ArchiveParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly catalog: ImageCatalog;
  readonly installer: ImageInstaller;
  readonly supply: LayerSupply;
  readonly work: ImageWork;
}

/** Writes images as archives, and takes them from archives. */
export class ImageArchives {
  readonly #parts: ArchiveParts;

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
        findLayer: (held, diffId) => supply.find(held, diffId, signal),
        holderOf: (name) => index.named(name)?.id,
        signal,
      }),
    );
  }
}
