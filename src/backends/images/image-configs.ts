/** The parsed configurations of all images, in memory: listings, filters and events read them. */
import type { Logger } from "../../common/logger.ts";
import { systemError } from "../../common/errors.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ContentStore } from "./content-store.ts";
import { type ImageConfig, parseImageConfig } from "./image-config.ts";
import { maxJsonBytes } from "./manifest.ts";

/** Configurations by image ID. */
export class ImageConfigs {
  readonly #configs = new Map<string, ImageConfig>();

  /** Reads the configurations of these images; one that cannot be read is logged and left out. */
  async load(store: ContentStore, records: readonly ImageRecord[], logger: Logger): Promise<void> {
    for (const { id } of records) {
      try {
        this.#configs.set(id, parseImageConfig(await store.read(id, maxJsonBytes)));
      } catch (error) {
        logger.error({ err: error, image: id }, "the configuration of an image cannot be read");
      }
    }
  }

  /** Remembers the configuration of a new image. */
  add(id: string, config: ImageConfig): void {
    this.#configs.set(id, config);
  }

  /** Forgets the configuration of an image that has gone. */
  delete(id: string): void {
    this.#configs.delete(id);
  }

  /** The configuration, or undefined where it could not be read. */
  find(id: string): ImageConfig | undefined {
    return this.#configs.get(id);
  }

  /** The configuration; `system` where it could not be read. */
  get(id: string): ImageConfig {
    const config = this.find(id);
    if (config === undefined) {
      throw systemError(`the configuration of image ${id} is missing from the content store`);
    }
    return config;
  }
}
