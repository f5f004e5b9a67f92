/** Images that were pulled through containers' Docker sockets; in memory only: after a restart they are pulled again. */

import { remember } from "../../../common/forget-oldest.ts";

/** Maximum number of images remembered per container; the oldest are dropped first. */
const mostImages = 1_000;

/** Pulled images, by the container that owns the realm. */
export class PulledImages {
  readonly #pulled = new Map<string, Map<string, Set<string>>>();
  readonly #exists: (containerId: string) => boolean;

  /** @param exists whether a container still exists; images of others are dropped */
  constructor(exists: (containerId: string) => boolean) {
    this.#exists = exists;
  }

  /** @param name `name:tag`; undefined for a pull by digest */
  add(containerId: string, imageId: string, name: string | undefined): void {
    for (const id of [...this.#pulled.keys()].filter((each) => !this.#exists(each))) {
      this.#pulled.delete(id);
    }
    const images = this.#pulled.get(containerId) ?? new Map<string, Set<string>>();
    this.#pulled.set(containerId, images);
    const names = images.get(imageId) ?? new Set();
    remember(images, imageId, name === undefined ? names : names.add(name), mostImages);
  }

  has(containerId: string, imageId: string): boolean {
    return this.#pulled.get(containerId)?.has(imageId) === true;
  }

  namesOf(containerId: string, imageId: string): ReadonlySet<string> {
    return this.#pulled.get(containerId)?.get(imageId) ?? new Set();
  }
}
