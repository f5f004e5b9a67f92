/** The images that the driver has made runnable since this process began. */
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ImagePreparer } from "../driver/images.ts";
import type { ContentStore } from "./content-store.ts";

/** Has the driver prepare images, and remembers which. */
export class PreparedImages {
  readonly #content: ContentStore;
  readonly #preparer: ImagePreparer;
  readonly #ids = new Set<string>();

  constructor(content: ContentStore, preparer: ImagePreparer) {
    this.#content = content;
    this.#preparer = preparer;
  }

  /** Has the driver prepare an image, also once more, and answers its reference. @throws what the driver throws */
  async prepare(record: ImageRecord, signal: AbortSignal): Promise<string> {
    const blobPath = (digest: string): string => this.#content.path(digest);
    const reference = await this.#preparer.prepare(record, blobPath, signal);
    this.#ids.add(record.id);
    return reference;
  }

  /** Whether an image is prepared when a container of it starts: most states of builds on a cloud are never run. */
  waitsForStart({ ofBuild }: ImageRecord): boolean {
    return ofBuild && this.#preparer.unpacking.kind === "platform";
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** Forgets an image that is gone, or was not installed in the end. */
  delete(id: string): void {
    this.#ids.delete(id);
  }
}
