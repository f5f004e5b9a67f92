/** Recovery at a backend's start: removes what interrupted work left, and what did not reach the disk. */
import type { Logger } from "../../common/logger.ts";
import type { ImagePreparer } from "../driver/images.ts";
import type { State } from "../state/state.ts";
import type { ContentStore } from "./content-store.ts";
import type { ImageConfigs } from "./image-configs.ts";
import { type ImageDisposal, layersWithoutUse } from "./image-disposal.ts";
import type { ImageIndex } from "./image-index.ts";
import type { LayerDurability } from "./layer-durability.ts";
import type { LayerRetention } from "./layer-retention.ts";

/** Dependencies for finding unneeded content. */
export interface CollectionParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly retention: LayerRetention;
  readonly preparer: ImagePreparer;
  readonly state: State;
  readonly logger: Logger;
}

/** Dependencies of recovery. */
export interface RecoveryParts extends CollectionParts {
  readonly configs: ImageConfigs;
  readonly durability: LayerDurability;
  readonly disposal: ImageDisposal;
}

/** Makes content, index and unpacked layers consistent, and reads the configurations. */
export async function recoverImages(parts: RecoveryParts): Promise<void> {
  const { index, configs, content, durability, disposal, state, logger } = parts;
  if (state.losses.length === 0) {
    await collectContent(parts);
  } else {
    logger.warn(
      { losses: state.losses },
      "content that no image needs is kept: the state may have lost images",
    );
  }
  await configs.load(content, [...index.images.values()], logger);
  for (const record of await durability.review()) {
    const { id, names } = record;
    logger.error(
      { image: id, names },
      "an image had not reached the disk when the machine stopped: it is gone",
    );
    await disposal.delete(record, []);
  }
  await sweepLayers(parts);
}

/** Deletes blobs and layers that no image or container in the state needs. */
export async function collectUnneeded(parts: CollectionParts): Promise<void> {
  await collectContent(parts);
  await sweepLayers(parts);
}

/** Whether there are blobs or layers that no image or container in the state needs. */
export async function hasUnneeded({ content, index, preparer, state }: CollectionParts): Promise<boolean> {
  const blobs = await content.unneeded((digest) => index.images.isReferenced(digest));
  const { unpacking } = preparer;
  const layers = unpacking.kind === "platform" ? [] : layersWithoutUse(state, await unpacking.known());
  return blobs.length + layers.length > 0;
}

async function collectContent({ content, index, logger }: CollectionParts): Promise<void> {
  const collected = await content.collect((digest) => index.images.isReferenced(digest));
  if (collected > 0) {
    logger.info({ blobs: collected }, "deleted content that no image needs");
  }
}

/** Deletes layers that a crash left behind without an image's record; a failure does not prevent the start. */
async function sweepLayers({ retention, preparer: { unpacking }, logger }: CollectionParts): Promise<void> {
  if (unpacking.kind === "platform") {
    return;
  }
  try {
    await retention.forgetUnused(await unpacking.known());
  } catch (error) {
    logger.warn({ err: error }, "layers that no image needs are left behind");
  }
}
