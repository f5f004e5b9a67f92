/**
 * The last step of load, import and pull: turns verified content in the store into images. They become visible once all
 * of them can run; a failure leaves nothing behind. Layers are synced afterwards ({@link LayerDurability}).
 */
import { isDeepStrictEqual } from "node:util";

import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt";

import type { Clock } from "../../common/clock.ts";
import { conflict, ignoring, isErrorKind } from "../../common/errors.ts";
import { shortId } from "../../common/ids.ts";
import type { Logger } from "../../common/logger.ts";
import { type ImageRecord, ImageRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ImagePreparer } from "../driver/images.ts";
import type { NewEvent } from "../state/journal.ts";
import type { ContentStore } from "./content-store.ts";
import type { ImageConfig } from "./image-config.ts";
import type { ImageConfigs } from "./image-configs.ts";
import type { ImageIndex } from "./image-index.ts";
import type { LayerDurability } from "./layer-durability.ts";
import type { LayerRetention } from "./layer-retention.ts";
import type { PreparedImages } from "./prepared-images.ts";

/** A layer of an image to install. */
export interface InstalledLayer {
  readonly diffId: string;
  /** Digest of the blob. */
  readonly digest: string;
  /** Bytes: uncompressed if the blob was fetched, otherwise those of the blob. */
  readonly size: number;
}

/** An image whose manifest, configuration and (if the driver needs them) layers are in the content store. */
export interface ImageToInstall {
  readonly id: string;
  readonly config: ImageConfig;
  readonly manifestDigest: string;
  readonly manifestMediaType: string;
  /** Bottom first. */
  readonly layers: readonly InstalledLayer[];
  /** True if the layers' blobs are in the store. */
  readonly hasLayers: boolean;
  /** Full names to give it, also if other images have them. */
  readonly names: readonly string[];
  /** True if a user chose the names here; names from a pull or load get no tag time, as in dockerd. */
  readonly isTagged?: boolean;
  /** Digest references that it was pulled by. */
  readonly digests: readonly string[];
  /** `repository@sha256:…` of its manifest, to run it from if the platform pulls images; absent: from the first of its digests. */
  readonly pulledFrom?: string;
  /** ID of the image that it was committed on. */
  readonly parentId?: string;
  /** True to hide it from users, unless it is already visible to them. */
  readonly ofBuild?: boolean;
  /** Throws if it may not have its ID or names by then; called right before the commit. */
  readonly admit?: () => void;
  readonly events: readonly NewEvent[];
}

/** Dependencies of the installer. */
export interface InstallerParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly preparer: ImagePreparer;
  readonly retention: LayerRetention;
  readonly durability: LayerDurability;
  readonly prepared: PreparedImages;
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
   * Makes the driver prepare the images and commits them, all or none, except that those with too many names, or
   * beyond the room for names, are refused alone. The caller's lease holds their blobs.
   *
   * @throws the driver's error; the signal's reason; system: images' configurations or names hold too much; conflict: an image
   *   has come meanwhile with other layers, and neither were compared with its configuration
   */
  async install(images: readonly ImageToInstall[], signal: AbortSignal): Promise<void> {
    const { index, configs, durability, prepared } = this.#parts;
    using _room = configs.reserve(images);
    const diffIds = images.flatMap((image) => image.layers.map((layer) => layer.diffId));
    const references = new Map<string, string>();
    const preparedFor = new Map<string, ImageRecord>();
    await this.withLayers(diffIds, async () => {
      let boots: string[];
      do {
        for (const image of images) {
          signal.throwIfAborted();
          const record = withDigestsOf(this.#recordFor(image), image);
          preparedFor.set(image.id, record);
          references.set(
            image.id,
            prepared.waitsForStart(record) ? record.driverReference : await prepared.prepare(record, signal),
          );
        }
        signal.throwIfAborted();
        boots = [];
        for (const image of images) {
          boots.push(await durability.syncBefore(this.#recordFor(image)));
        }
        // Otherwise another image's manifest would get the driver's reference to this one.
      } while (!images.every((image) => runsAlike(this.#recordFor(image), preparedFor.get(image.id))));
      for (const image of images) {
        image.admit?.();
      }
      // Commits in the same turn of the event loop form one batch.
      const committed = await Promise.allSettled(
        images.map((image, at) => this.#commit(image, references.get(image.id) ?? "", boots[at] ?? "")),
      );
      const refused = committed.find((each) => each.status === "rejected");
      if (refused !== undefined) {
        throw refused.reason;
      }
      for (const { id } of images) {
        durability.syncBehind(id);
      }
    }).catch(async (error: unknown) => {
      for (const { id } of images) {
        prepared.delete(id);
        const known = index.images.get(id);
        if (known === undefined) {
          configs.delete(id);
        } else if (known.unsyncedBoot !== "") {
          durability.syncBehind(id); // It was committed beside one that was refused.
        }
      }
      for (const [id, driverReference] of references) {
        const record = preparedFor.get(id);
        if (record !== undefined && index.images.get(id) === undefined) {
          await prepared.discard({ ...record, driverReference }, undefined).catch((reason: unknown) => {
            this.#parts.logger.warn(
              { err: reason, image: id },
              "an image that was not installed is left behind",
            );
          });
        }
      }
      throw error;
    });
  }

  /**
   * Runs work while the driver keeps these layers (diff IDs), whether or not they exist yet. If it fails, unneeded ones
   * are deleted.
   */
  async withLayers<T>(diffIds: readonly string[], work: () => Promise<T>): Promise<T> {
    const { retention } = this.#parts;
    try {
      using _held = await retention.hold(diffIds);
      return await work();
    } catch (error) {
      await retention.forgetUnused(diffIds).catch((reason: unknown) => {
        this.#parts.logger.warn(
          { err: reason },
          "layers of an image that could not be installed are left behind",
        );
      });
      throw error;
    }
  }

  /**
   * Makes the driver unpack a layer held by the current work.
   *
   * @returns bytes of its tar; undefined if the driver does not know or rejects the layer, which must then be read
   */
  async unpack(diffId: string, digest: string, signal: AbortSignal): Promise<number | undefined> {
    const {
      preparer: { unpacking },
      content,
    } = this.#parts;
    if (unpacking.kind === "platform") {
      return undefined;
    }
    const unpacked = unpacking.unpack(diffId, content.path(digest), signal);
    return await unpacked.catch(ignoring((error) => isErrorKind(error, "invalid")));
  }

  async #commit(image: ImageToInstall, driverReference: string, unsyncedBoot: string): Promise<void> {
    const { index, configs, clock } = this.#parts;
    const record = { ...this.#recordFor(image), driverReference, unsyncedBoot };
    const isTagged = image.isTagged === true && image.names.length > 0;
    const tagged = isTagged ? { ...record, lastTagged: now(clock) } : record;
    const put = index.withNames(tagged, image.names, image.digests);
    configs.add(image.id, image.config);
    await index.commit({ put, events: image.events });
  }

  /**
   * An existing image keeps its blobs, since an equal ID means equal content whatever the compression. Unless nobody has
   * compared its layers with its configuration: those that were replace it or, where the driver can only run pulled
   * images and both have the same blobs, confirm it.
   *
   * @throws conflict: neither its layers nor the other ones of this installation were compared
   */
  #recordFor(image: ImageToInstall): ImageRecord {
    const known = this.#parts.index.images.get(image.id);
    const made = recordOf(image);
    if (known === undefined) {
      return made;
    }
    const { names, digests } = known;
    const parentId = image.parentId ?? known.parentId;
    const ofBuild = known.ofBuild && made.ofBuild;
    if (known.layerSizes.length > 0 || known.diffIds.length === 0) {
      return { ...known, parentId, ofBuild };
    }
    const runsAsIs = image.pulledFrom !== undefined || this.#parts.preparer.keepsOwn;
    if (image.hasLayers && !runsAsIs && isDeepStrictEqual(known.layerDigests, made.layerDigests)) {
      return { ...known, size: made.size, layerSizes: made.layerSizes, parentId, ofBuild };
    }
    if (image.hasLayers) {
      return { ...made, names, digests, parentId, ofBuild };
    }
    if (known.manifestDigest !== image.manifestDigest) {
      throw conflict(`image ${shortId(image.id)} has come by another manifest meanwhile: pull it again`);
    }
    return { ...known, driverReference: image.pulledFrom ?? known.driverReference, parentId, ofBuild };
  }
}

/** Whether what the driver has prepared for one record of an image is right for another one. */
export function runsAlike(one: ImageRecord, other: ImageRecord | undefined): boolean {
  return one.manifestDigest === other?.manifestDigest && one.driverReference === other.driverReference;
}

/** Adds this installation's digests to a record, so that the driver gets all digests known to registries. */
function withDigestsOf(record: ImageRecord, { digests }: ImageToInstall): ImageRecord {
  return { ...record, digests: [...new Set([...record.digests, ...digests])] };
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
    driverReference: image.pulledFrom ?? "",
    ofBuild: image.ofBuild === true,
  });
}

/** The clock's time as a timestamp. */
export function now(clock: Clock): Timestamp {
  return timestampFromMs(clock.nowMs());
}
