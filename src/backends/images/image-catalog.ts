/** Images for users: by name, in listings, in detail, with their history. */
import type { Clock } from "../../common/clock.ts";
import { notFound } from "../../common/errors.ts";
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type {
  ImageDetail,
  ImageHistoryEntry,
  ImageSummary,
  ListImagesRequest,
} from "../../gen/sockerless/backend/v1/image_pb.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { asksForBuilds } from "../model/build-label.ts";
import { containersUsingImage } from "../model/container-images.ts";
import type { State } from "../state/state.ts";
import type { ImageConfigs } from "./image-configs.ts";
import { describeImage } from "./image-detail.ts";
import { imageEvent } from "./image-events.ts";
import { historyOf } from "./image-history.ts";
import type { ImageIndex } from "./image-index.ts";
import { now } from "./image-installer.ts";
import { type ListedImage, listImages } from "./image-list.ts";
import { formatPlatform, platformDistance } from "./platform.ts";
import { canonicalString, familiarString, parseAny, parseTarget } from "./reference.ts";

/** Dependencies of the catalog. */
export interface CatalogParts {
  readonly state: State;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly clock: Clock;
  /** The storage driver shown by `docker inspect`. */
  readonly storageDriver: string;
}

/** Finds, lists and names images. */
export class ImageCatalog {
  readonly #parts: CatalogParts;

  constructor(parts: CatalogParts) {
    this.#parts = parts;
  }

  /**
   * Resolves a reference to an image: a name in any form, a digest, an ID or an unambiguous prefix of one.
   *
   * @param platform the platform that the image must have; undefined for any
   * @throws not-found, invalid
   */
  find(reference: string, platform?: Platform): ImageRecord {
    const { index, configs } = this.#parts;
    const record = index.find(reference);
    const offered = configs.get(record.id).platform;
    if (platform !== undefined && platformDistance(platform, offered) === undefined) {
      const parsed = parseAny(reference);
      const name = parsed.kind === "named" ? familiarString(parsed.named) : reference;
      throw notFound(
        `image with reference ${name} was found but its platform (${formatPlatform(offered)}) ` +
          `does not match the specified platform (${formatPlatform(platform)})`,
      );
    }
    return record;
  }

  /** Every image, with the properties for listings and prunes. */
  all(): ListedImage[] {
    const { state, index, configs } = this.#parts;
    return [...index.images.values()].flatMap((record) => {
      const config = configs.find(record.id);
      const containers = containersUsingImage(state, record.id).length;
      const parentId = index.parentOf(record)?.id ?? "";
      const isParent = index.images.isParent(record.id);
      return config === undefined ? [] : [{ record, config, containers, parentId, isParent }];
    });
  }

  /** The images that users see: all except a build's intermediate states. */
  visible(): ListedImage[] {
    return this.all().filter(({ record }) => !record.ofBuild);
  }

  /** The images for `docker images`. @throws as {@link listImages} */
  async list(request: ListImagesRequest, signal: AbortSignal): Promise<ImageSummary[]> {
    const { index, configs, clock } = this.#parts;
    return await listImages(asksForBuilds(request.filters) ? this.all() : this.visible(), request, {
      nowMs: clock.nowMs(),
      signal,
      find: (reference) => ({ config: configs.get(index.find(reference).id) }),
      stacksOf: (record) => index.images.stacksOf(record),
    });
  }

  /** An image for `docker image inspect`. @throws as {@link find} */
  inspect(reference: string, platform?: Platform): ImageDetail {
    const { index, configs, storageDriver } = this.#parts;
    const record = this.find(reference, platform);
    return describeImage(record, configs.get(record.id), index.parentOf(record)?.id ?? "", storageDriver);
  }

  /** The steps that made an image, newest first. @throws as {@link find} */
  history(reference: string, platform?: Platform): ImageHistoryEntry[] {
    const { index, configs } = this.#parts;
    const record = this.find(reference, platform);
    const ancestors: ImageRecord[] = [];
    for (let next = index.parentOf(record); next !== undefined; next = index.parentOf(next)) {
      ancestors.push(next);
    }
    return historyOf(record, configs.get(record.id), ancestors);
  }

  /**
   * Gives an image a name, which its previous image loses.
   *
   * @throws not-found, invalid
   */
  async tag(source: string, target: string): Promise<void> {
    const { index, configs, clock } = this.#parts;
    const name = parseTarget(target);
    const record = index.find(source);
    const tagged = { ...record, lastTagged: now(clock), ofBuild: false };
    await index.commit({
      put: index.withNames(tagged, [canonicalString(name)], []),
      events: [imageEvent("tag", record.id, familiarString(name), configs.find(record.id))],
    });
  }
}
