/** `docker rmi` and `docker image prune`: removes images that a user names, or that nothing needs. */
import type { Clock } from "../../common/clock.ts";
import type { Logger } from "../../common/logger.ts";
import { notFound } from "../../common/errors.ts";
import { Turns } from "../../common/turns.ts";
import type { Platform, StringList } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { OneAtATime } from "../concurrency/one-at-a-time.ts";
import type { NewEvent } from "../state/journal.ts";
import { chainIds } from "./digest.ts";
import type { ImageCatalog } from "./image-catalog.ts";
import type { ImageConfigs } from "./image-configs.ts";
import type { ImageDisposal } from "./image-disposal.ts";
import { imageEvent, pruneEvent } from "./image-events.ts";
import { type ImageIndex, withoutReferences } from "./image-index.ts";
import { isStillPruned, type PrunedReference, referencesToPrune } from "./image-prune.ts";
import { isLeftOver, planRemoval } from "./image-removal.ts";
import { familiarString, parseNamed } from "./reference.ts";

/** An entry in the answer to `docker rmi`. */
export type RemovedEntry = { readonly untagged: string } | DeletedEntry;

/** An image, or a stack of layers that only it had, with the bytes of its topmost layer. */
export interface DeletedEntry {
  readonly deleted: string;
  readonly size: bigint;
}

/** The outcome of a prune. */
export interface ImagePruneReport {
  readonly removed: readonly RemovedEntry[];
  /** Bytes. */
  readonly spaceReclaimed: bigint;
}

/** Dependencies of removals. */
export interface RemovalParts {
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly catalog: ImageCatalog;
  readonly disposal: ImageDisposal;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Removes images for users. */
export class ImageRemoval {
  readonly #parts: RemovalParts;
  readonly #prunes = new OneAtATime();
  /** Removals that clients ask for: of an image with a thousand names, one takes many milliseconds. */
  readonly #turns = new Turns(1);

  constructor(parts: RemovalParts) {
    this.#parts = parts;
  }

  /**
   * Removes a name, or an image with its names.
   *
   * @param noPrune keep the images that it was committed on, even if nothing else needs them
   * @param platform the platform that the image must have; undefined for any
   * @param ofBuild remove it only if it is a builder's state, no user's image
   * @throws not-found, invalid; conflict: in use, named by several repositories, or others were committed on it
   */
  async remove(
    reference: string,
    force: boolean,
    noPrune = false,
    platform?: Platform,
    ofBuild = false,
  ): Promise<RemovedEntry[]> {
    const { catalog, index } = this.#parts;
    await this.#turns.next();
    const record = platform === undefined ? index.find(reference) : catalog.find(reference, platform);
    if (ofBuild && !record.ofBuild) {
      throw notFound(`No such state of a build: ${reference}`);
    }
    return await this.#removeFrom(record, reference, force, noPrune);
  }

  async #removeFrom(
    record: ImageRecord,
    reference: string,
    force: boolean,
    noPrune: boolean,
  ): Promise<RemovedEntry[]> {
    const { index, configs, disposal } = this.#parts;
    const isParent = index.images.isParent(record.id);
    const plan = planRemoval({ record, reference, force, users: disposal.usersOf(record.id), isParent });
    const config = configs.find(record.id);
    const untag = imageEvent("untag", record.id, record.id, config, plan.untagged.length);
    const events = plan.untagged.map(() => untag);
    const untagged: RemovedEntry[] = plan.untagged.map((each) => ({
      untagged: familiarString(parseNamed(each)),
    }));
    if (!plan.deleted) {
      await index.commit({ put: [withoutReferences(record, plan.untagged)], events });
      return untagged;
    }
    const deleted = await this.#deleteWhole(record, events);
    const leftOver = noPrune ? [] : await this.#removeLeftOver(record.parentId);
    return [...untagged, ...deleted, ...leftOver];
  }

  async #deleteWhole(record: ImageRecord, events: readonly NewEvent[]): Promise<RemovedEntry[]> {
    const { configs, disposal } = this.#parts;
    const layers = this.#layersOfNoOther(record);
    const config = configs.find(record.id);
    await disposal.delete(record, [...events, imageEvent("delete", record.id, record.id, config)]);
    return [{ deleted: record.id, size: 0n }, ...layers];
  }

  /** Removes the parent of a removed image if nothing else needs it, then that one's parent, and so on. */
  async #removeLeftOver(id: string): Promise<RemovedEntry[]> {
    const { index, disposal } = this.#parts;
    const removed: RemovedEntry[] = [];
    let record = index.images.get(id);
    while (
      record !== undefined &&
      isLeftOver(record, disposal.usersOf(record.id), index.images.isParent(record.id))
    ) {
      removed.push(...(await this.#deleteWhole(record, [])));
      record = index.images.get(record.parentId);
    }
    return removed;
  }

  /**
   * Removes unneeded images; keeps those that a container uses.
   *
   * @param signal ends the prune; remaining images are kept
   * @throws invalid: a filter; conflict: another prune is running
   */
  prune(filters: Readonly<Record<string, StringList>>, signal: AbortSignal): Promise<ImagePruneReport> {
    const { catalog, clock } = this.#parts;
    return this.#prunes.run(() =>
      this.#removeUnused(referencesToPrune(catalog.visible(), filters, clock.nowMs()), signal),
    );
  }

  async #removeUnused(pruned: readonly PrunedReference[], signal: AbortSignal): Promise<ImagePruneReport> {
    const { index, logger } = this.#parts;
    const removed: RemovedEntry[] = [];
    for (const each of pruned) {
      if (signal.aborted) {
        break;
      }
      const record = index.images.get(each.imageId);
      if (!isStillPruned(record, each)) {
        continue;
      }
      try {
        removed.push(...(await this.#removeFrom(record, each.reference, false, false)));
      } catch (error) {
        logger.debug({ err: error, image: each.reference }, "an image is not pruned");
      }
    }
    const spaceReclaimed = removed
      .map((entry) => ("deleted" in entry ? entry.size : 0n))
      .reduce((sum, size) => sum + size, 0n);
    await index.commit({ events: [pruneEvent(spaceReclaimed)] });
    return { removed, spaceReclaimed };
  }

  /** Stacks of layers that only this image uses, top first: Docker reports them as deleted too. */
  #layersOfNoOther(record: ImageRecord): DeletedEntry[] {
    const stacks = this.#parts.index.images.stacksOf(record);
    return chainIds(record.diffIds)
      .map((deleted, at) => ({ deleted, size: record.layerSizes[at] ?? 0n }))
      .filter((_, at) => stacks[at]?.images === 1)
      .reverse();
  }
}
