/** Deletes images, and everything that only they needed: configuration, blobs, unpacked layers. */
import type { Logger } from "../../common/logger.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { containersUsingImage } from "../model/container-images.ts";
import { isActive } from "../model/records.ts";
import type { NewEvent } from "../state/journal.ts";
import type { State } from "../state/state.ts";
import { blobsOf } from "../state/image-table.ts";
import type { ContentStore } from "./content-store.ts";
import type { ImageConfigs } from "./image-configs.ts";
import type { ImageIndex } from "./image-index.ts";
import type { ImageUser } from "./image-removal.ts";
import type { LayerRetention } from "./layer-retention.ts";
import type { PreparedImages } from "./prepared-images.ts";

/** Dependencies of the deletion. */
export interface DisposalParts {
  readonly state: State;
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly retention: LayerRetention;
  readonly prepared: PreparedImages;
  readonly logger: Logger;
}

/** Removes images from the index and deletes what they leave. */
export class ImageDisposal {
  readonly #parts: DisposalParts;

  constructor(parts: DisposalParts) {
    this.#parts = parts;
  }

  /** Removes an image from the index at once, and deletes what it leaves. */
  async delete(record: ImageRecord, events: readonly NewEvent[]): Promise<void> {
    const { index, configs, content, retention, prepared, state } = this.#parts;
    await index.commit({ remove: [record.id], events });
    const now = (): ImageRecord | undefined => index.images.get(record.id); // It may be installed again at any time.
    if (now() === undefined) {
      configs.delete(record.id);
    }
    await this.#unlessItFails(record, async () => {
      const unneeded = blobsOf(record).filter((digest) => !index.images.isReferenced(digest));
      await content.discard(state.losses.length > 0 ? [] : unneeded);
      await retention.forgetUnused(record.diffIds);
    });
    await this.#unlessItFails(record, () => prepared.discard(record, now()));
  }

  async #unlessItFails(record: ImageRecord, deletion: () => Promise<void>): Promise<void> {
    try {
      await deletion();
    } catch (error) {
      this.#parts.logger.warn({ err: error, image: record.id }, "content of a removed image is left behind");
    }
  }

  /** The containers made from an image. */
  usersOf(id: string): ImageUser[] {
    return containersUsingImage(this.#parts.state, id).map((container) => ({
      id: container.id,
      running: isActive(container),
    }));
  }
}

/** The layers (diff IDs) used by neither an image nor a container. */
export function layersWithoutUse(state: State, diffIds: readonly string[]): string[] {
  const { images, containers } = state;
  return [...new Set(diffIds)].filter((diffId) => !images.hasLayer(diffId) && !containers.hasLayer(diffId));
}
