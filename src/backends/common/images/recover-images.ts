/** The start of a backend: clears what interrupted work left, and what did not reach the disk. */
import type { Logger } from "../../../common/logger.ts";
import type { ImagePreparer } from "../driver/images.ts";
import type { ContentStore } from "./content-store.ts";
import type { ImageConfigs } from "./image-configs.ts";
import type { ImageDisposal } from "./image-disposal.ts";
import type { ImageIndex } from "./image-index.ts";
import type { LayerDurability } from "./layer-durability.ts";
import type { LayerRetention } from "./layer-retention.ts";

/** Parts of the images that recovery works on. */
export interface RecoveryParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly configs: ImageConfigs;
  readonly durability: LayerDurability;
  readonly disposal: ImageDisposal;
  readonly retention: LayerRetention;
  readonly preparer: ImagePreparer;
  readonly logger: Logger;
}

/** Makes content, index and unpacked layers fit each other, and reads the configurations. */
export async function recoverImages(parts: RecoveryParts): Promise<void> {
  const { content, index, configs, durability, disposal, logger } = parts;
  const referenced = index.referencedBlobs();
  const collected = await content.collect((digest) => referenced.has(digest));
  if (collected > 0) {
    logger.info({ blobs: collected }, "deleted content that no image needs");
  }
  await configs.load(content, index.records(), logger);
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

/** Clears away layers that a crash has left behind their image's record; failing is no reason not to start. */
async function sweepLayers({ retention, preparer: { unpacking }, logger }: RecoveryParts): Promise<void> {
  if (unpacking.kind === "platform") {
    return;
  }
  try {
    await retention.forgetUnused(await unpacking.known());
  } catch (error) {
    logger.warn({ err: error }, "layers that no image needs are left behind");
  }
}
