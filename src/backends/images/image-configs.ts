/** The parsed configurations of all images, in memory for listings, filters and events. */
import type { Logger } from "../../common/logger.ts";
import { systemError } from "../../common/errors.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { overfull, Weights } from "../state/weights.ts";
import type { ContentStore } from "./content-store.ts";
import { type ImageConfig, parseImageConfig } from "./image-config.ts";
import { maxJsonBytes } from "./manifest.ts";

/** Configurations by image ID. */
export class ImageConfigs {
  readonly #configs = new Map<string, ImageConfig>();
  readonly #weights = new Weights();

  /** Reads the configurations of images; logs and skips unreadable ones. */
  async load(store: ContentStore, records: readonly ImageRecord[], logger: Logger): Promise<void> {
    for (const { id } of records) {
      try {
        this.add(id, parseImageConfig(await store.read(id, maxJsonBytes)));
      } catch (error) {
        logger.error({ err: error, image: id }, "the configuration of an image cannot be read");
      }
    }
  }

  /** Adds the configuration of a new image. */
  add(id: string, config: ImageConfig): void {
    this.#configs.set(id, config);
    this.#weights.set(id, config);
  }

  /** Removes the configuration of a deleted image. */
  delete(id: string): void {
    this.#configs.delete(id);
    this.#weights.delete(id);
  }

  /** Refuses images that are not known yet while the known ones' configurations hold too much. @throws system */
  requireRoom(ids: readonly string[]): void {
    if (this.#weights.isFull && ids.some((id) => !this.#configs.has(id))) {
      throw overfull("images' configurations");
    }
  }

  /** The configuration; undefined if it could not be read. */
  find(id: string): ImageConfig | undefined {
    return this.#configs.get(id);
  }

  /** The configuration. @throws system if it could not be read */
  get(id: string): ImageConfig {
    const config = this.find(id);
    if (config === undefined) {
      throw systemError(`the configuration of image ${id} is missing from the content store`);
    }
    return config;
  }
}
