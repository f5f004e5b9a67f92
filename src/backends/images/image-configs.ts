/** The parsed configurations of all images, in memory for listings, filters and events. */
import type { Logger } from "../../common/logger.ts";
import { systemError } from "../../common/errors.ts";
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { Weights } from "../state/weights.ts";
import type { ContentStore } from "./content-store.ts";
import { type ImageConfig, parseImageConfig } from "./image-config.ts";
import { maxJsonBytes } from "./manifest.ts";

/** Configurations by image ID. */
export class ImageConfigs {
  readonly #configs = new Map<string, ImageConfig>();
  readonly #weights = new Weights("images' configurations");
  /** Installations under way that hold room, by image ID. */
  readonly #reserved = new Map<string, number>();

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
    this.#uncount(id);
  }

  /**
   * Counts configurations of images to install until disposed; those added by then stay counted.
   *
   * @throws system: all configurations would hold too much
   */
  reserve(images: readonly { readonly id: string; readonly config: ImageConfig }[]): Disposable {
    using room = new DisposableStack();
    for (const { id, config } of images) {
      this.#reserved.set(id, (this.#reserved.get(id) ?? 0) + 1);
      room.defer(() => this.#release(id));
      const excess = this.#weights.set(id, config);
      if (excess !== undefined) {
        throw systemError(excess);
      }
    }
    return room.move();
  }

  #release(id: string): void {
    const others = (this.#reserved.get(id) ?? 0) - 1;
    if (others > 0) {
      this.#reserved.set(id, others);
      return;
    }
    this.#reserved.delete(id);
    this.#uncount(id);
  }

  /** Counts a configuration no more, unless it is kept or its image is being installed. */
  #uncount(id: string): void {
    if (!this.#configs.has(id) && !this.#reserved.has(id)) {
      this.#weights.delete(id);
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
