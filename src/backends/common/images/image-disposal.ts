/** Taking images away, and everything that only they needed: configuration, blobs, unpacked layers. */
import type { Logger } from "../../../common/logger.ts";
import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ImagePreparer } from "../driver.ts";
import { containersUsingImage, layersOf } from "../engine/container-images.ts";
import { isActive } from "../engine/records.ts";
import type { NewEvent } from "../state/journal.ts";
import type { State } from "../state/state.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import { chainIds } from "./digest.ts";
import type { ImageConfigs } from "./image-configs.ts";
import { imageEvent, pruneEvent } from "./image-events.ts";
import { type ImageIndex, withoutReferences } from "./image-index.ts";
import { type ImageUser, isLeftOver, planRemoval } from "./image-removal.ts";
import { sizesByChain } from "./layer-sizes.ts";
import type { LayerRetention } from "./layer-retention.ts";
import { familiarString, parseNamed } from "./reference.ts";

/** One entry of what `docker rmi` answers. */
export type RemovedEntry = { readonly untagged: string } | { readonly deleted: string };

/** What a prune did. */
export interface ImagePruneReport {
  readonly removed: readonly RemovedEntry[];
  /** Bytes. */
  readonly spaceReclaimed: bigint;
}

/** What disposal works on. */
export interface DisposalParts {
  readonly state: State;
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly preparer: ImagePreparer;
  readonly retention: LayerRetention;
  /** IDs of the images that the driver has prepared; those that go are struck out. */
  readonly prepared: Set<string>;
  readonly logger: Logger;
}

/** Removes images and clears away what they leave. */
export class ImageDisposal {
  readonly #parts: DisposalParts;

  constructor(parts: DisposalParts) {
    this.#parts = parts;
  }

  /**
   * Removes a name, or an image with its names.
   *
   * @param noPrune the images that it was committed on stay, also those that nothing else needs
   * @throws not-found, invalid; conflict: in use, named by several repositories, or others were committed on it
   */
  async remove(reference: string, force: boolean, noPrune = false): Promise<RemovedEntry[]> {
    const { index, configs } = this.#parts;
    const record = index.find(reference);
    const isParent = index.parentIds().has(record.id);
    const plan = planRemoval({ record, reference, force, users: this.usersOf(record.id), isParent });
    const config = configs.find(record.id);
    const events = plan.untagged.map(() => imageEvent("untag", record.id, record.id, config));
    const untagged: RemovedEntry[] = plan.untagged.map((each) => ({
      untagged: familiarString(parseNamed(each)),
    }));
    if (!plan.deleted) {
      await index.commit({ put: [withoutReferences(record, plan.untagged)], events });
      return untagged;
    }
    const parent = noPrune ? undefined : index.parentOf(record);
    return [
      ...untagged,
      ...(await this.#deleteWhole(record, events)),
      ...(await this.#removeLeftOver(parent)),
    ];
  }

  async #deleteWhole(record: ImageRecord, events: readonly NewEvent[]): Promise<RemovedEntry[]> {
    const chains = this.#chainsOfNoOther(record);
    const config = this.#parts.configs.find(record.id);
    await this.delete(record, [...events, imageEvent("delete", record.id, record.id, config)]);
    return [record.id, ...chains].map((deleted) => ({ deleted }));
  }

  /** Removes an image on which another stood that has gone, if nothing else needs it, and so on. */
  async #removeLeftOver(image: ImageRecord | undefined): Promise<RemovedEntry[]> {
    const { index } = this.#parts;
    const removed: RemovedEntry[] = [];
    let record = image;
    while (
      record !== undefined &&
      isLeftOver(record, this.usersOf(record.id), index.parentIds().has(record.id))
    ) {
      const parent = index.parentOf(record);
      removed.push(...(await this.#deleteWhole(record, [])));
      record = parent;
    }
    return removed;
  }

  /**
   * Removes what a prune found; what is in use is left.
   *
   * @param signal ends the prune: what is left is spared
   */
  async prune(references: readonly string[], signal: AbortSignal): Promise<ImagePruneReport> {
    const { index, logger } = this.#parts;
    const sizes = sizesByChain(index.records());
    const removed: RemovedEntry[] = [];
    for (const reference of references) {
      if (signal.aborted) {
        break;
      }
      try {
        removed.push(...(await this.remove(reference, false)));
      } catch (error) {
        logger.debug({ err: error, image: reference }, "an image is not pruned");
      }
    }
    const spaceReclaimed = removed
      .map((entry) => ("deleted" in entry ? (sizes.get(entry.deleted) ?? 0n) : 0n))
      .reduce((sum, size) => sum + size, 0n);
    await index.commit({ events: [pruneEvent(spaceReclaimed)] });
    return { removed, spaceReclaimed };
  }

  /** Takes an image out of the index at once, and clears away what it leaves. */
  async delete(record: ImageRecord, events: readonly NewEvent[]): Promise<void> {
    const { index, configs, content, preparer, retention, prepared, logger } = this.#parts;
    configs.delete(record.id);
    prepared.delete(record.id);
    await index.commit({ remove: [record.id], events });
    const referenced = index.referencedBlobs();
    const blobs = [record.id, record.manifestDigest, ...record.layerDigests];
    try {
      await content.discard(blobs.filter((digest) => digest !== "" && !referenced.has(digest)));
      await retention.forgetUnused(record.diffIds);
      await preparer.discard?.(record);
    } catch (error) {
      logger.warn({ err: error, image: record.id }, "content of a removed image is left behind");
    }
  }

  /** Ends a lease; what only it held and no image names goes. */
  async release(lease: BlobLease): Promise<void> {
    const { index, logger } = this.#parts;
    const referenced = index.referencedBlobs();
    try {
      await lease.release((digest) => referenced.has(digest));
    } catch (error) {
      logger.warn({ err: error }, "content that no image needs is left behind");
    }
  }

  /** The containers that were made from an image. */
  usersOf(id: string): ImageUser[] {
    return containersUsingImage(this.#parts.state, id).map((container) => ({
      id: container.id,
      running: isActive(container),
    }));
  }

  /** Stacks of layers that only this image stands on, top first: Docker reports them as deleted too. */
  #chainsOfNoOther(record: ImageRecord): string[] {
    const others = this.#parts.index.records().filter((each) => each.id !== record.id);
    const kept = new Set(others.flatMap((each) => chainIds(each.diffIds)));
    return chainIds(record.diffIds)
      .filter((chainId) => !kept.has(chainId))
      .reverse();
  }
}

/** Which of these layers (diff IDs) neither an image nor a container stands on. */
export function layersWithoutUse(state: State, diffIds: readonly string[]): string[] {
  const used = new Set([
    ...[...state.images.values()].flatMap((record) => record.diffIds),
    ...[...state.containers.values()].flatMap(layersOf),
  ]);
  return [...new Set(diffIds)].filter((diffId) => !used.has(diffId));
}
