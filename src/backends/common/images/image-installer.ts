/**
 * The last step of load, import and pull: content that is in the store and checked becomes images. Nothing is visible
 * before all of it is runnable and durable; a failure leaves nothing behind.
 */
import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";

import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logger.ts";
import { type ImageRecord, ImageRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ImagePreparer } from "../driver.ts";
import type { NewEvent } from "../state/journal.ts";
import type { ContentStore } from "./content-store.ts";
import type { ImageConfig } from "./image-config.ts";
import type { ImageConfigs } from "./image-configs.ts";
import type { ImageIndex } from "./image-index.ts";
import type { LayerRetention } from "./layer-retention.ts";

/** One layer of an image to be installed. */
export interface InstalledLayer {
  readonly diffId: string;
  /** Of the blob. */
  readonly digest: string;
  /** Bytes: unpacked where the blob was fetched, of the blob where it was not. */
  readonly size: number;
}

/** An image whose manifest, configuration and (where the driver needs them) layers are in the content store. */
export interface ImageToInstall {
  readonly id: string;
  readonly config: ImageConfig;
  readonly manifestDigest: string;
  readonly manifestMediaType: string;
  /** Bottom first. */
  readonly layers: readonly InstalledLayer[];
  /** The layers' blobs are in the store. */
  readonly hasLayers: boolean;
  /** Full names that it takes, from other images too. */
  readonly names: readonly string[];
  /** Digest references by which it was pulled. */
  readonly digests: readonly string[];
  /** The image that it was committed on. */
  readonly parentId?: string;
  readonly events: readonly NewEvent[];
}

/** What the installer works on. */
export interface InstallerParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly preparer: ImagePreparer;
  readonly retention: LayerRetention;
  /** IDs of the images that the driver has prepared since this process began. */
  readonly prepared: Set<string>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Turns content into images. */
export class ImageInstaller {
  readonly #parts: InstallerParts;

  constructor(parts: InstallerParts) {
    this.#parts = parts;
  }

  /**
   * Has the driver prepare the images and commits them, all or none. The caller's lease holds their blobs.
   *
   * @throws what the driver throws; the signal's reason
   */
  async install(images: readonly ImageToInstall[], signal: AbortSignal): Promise<void> {
    const { content, retention } = this.#parts;
    const diffIds = images.flatMap((image) => image.layers.map((layer) => layer.diffId));
    const references = new Map<string, string>();
    try {
      using _held = await retention.hold(diffIds);
      for (const image of images) {
        signal.throwIfAborted();
        references.set(image.id, await this.#prepare(withDigestsOf(this.#recordFor(image), image), signal));
      }
      signal.throwIfAborted();
      await content.sync(images.flatMap((image) => blobsOf(this.#recordFor(image))));
      // Commits of one turn of the event loop are one batch.
      await Promise.all(images.map((image) => this.#commit(image, references.get(image.id) ?? "")));
    } catch (error) {
      for (const { id } of images) {
        this.#parts.prepared.delete(id);
      }
      await retention.forgetUnused(diffIds).catch((reason: unknown) => {
        this.#parts.logger.warn(
          { err: reason },
          "layers of an image that could not be installed are left behind",
        );
      });
      throw error;
    }
  }

  /** Has the driver prepare an image of the index, unless it has done so already. */
  async makeRunnable(record: ImageRecord, signal: AbortSignal): Promise<void> {
    const { index, prepared, retention } = this.#parts;
    if (prepared.has(record.id)) {
      return;
    }
    using _held = await retention.hold(record.diffIds);
    const driverReference = await this.#prepare(record, signal);
    const known = index.get(record.id);
    if (known !== undefined && known.driverReference !== driverReference) {
      await index.commit({ put: [{ ...known, driverReference }] });
    }
  }

  async #prepare(record: ImageRecord, signal: AbortSignal): Promise<string> {
    const { preparer, content, prepared } = this.#parts;
    const reference = await preparer.prepare(record, (digest) => content.path(digest), signal);
    prepared.add(record.id);
    return reference;
  }

  #commit(image: ImageToInstall, driverReference: string): Promise<void> {
    const { index, configs, clock } = this.#parts;
    const record = { ...this.#recordFor(image), driverReference };
    configs.add(image.id, image.config);
    const tagged = image.names.length > 0 ? { ...record, lastTagged: now(clock) } : record;
    return index.commit({ put: index.withNames(tagged, image.names, image.digests), events: image.events });
  }

  /**
   * An image that is there already keeps its blobs, since the same ID means the same content however it is compressed;
   * unless its layers were not fetched and now are there.
   */
  #recordFor(image: ImageToInstall): ImageRecord {
    const known = this.#parts.index.get(image.id);
    const made = recordOf(image);
    if (known === undefined) {
      return made;
    }
    const parentId = image.parentId ?? known.parentId;
    const { names, digests, driverReference } = known;
    return image.hasLayers && known.layerSizes.length === 0 && known.diffIds.length > 0
      ? { ...made, names, digests, driverReference, parentId }
      : { ...known, parentId };
  }
}

/** What the driver is told of an image: by which digests registries know it, those of this installation too. */
function withDigestsOf(record: ImageRecord, { digests }: ImageToInstall): ImageRecord {
  return { ...record, digests: [...new Set([...record.digests, ...digests])] };
}

/** Every blob that a record names and that is in the store. */
function blobsOf(record: ImageRecord): string[] {
  const layers = record.layerSizes.length > 0 ? record.layerDigests : [];
  return [record.id, record.manifestDigest, ...layers];
}

function recordOf(image: ImageToInstall): ImageRecord {
  return create(ImageRecordSchema, {
    id: image.id,
    manifestDigest: image.manifestDigest,
    manifestMediaType: image.manifestMediaType,
    size: BigInt(image.layers.reduce((sum, layer) => sum + layer.size, 0)),
    diffIds: image.layers.map((layer) => layer.diffId),
    layerDigests: image.layers.map((layer) => layer.digest),
    platform: image.config.platform,
    layerSizes: image.hasLayers ? image.layers.map((layer) => BigInt(layer.size)) : [],
    parentId: image.parentId ?? "",
  });
}

/** A clock's time as a timestamp. */
export function now(clock: Clock): Timestamp {
  return timestampFromMs(clock.nowMs());
}
