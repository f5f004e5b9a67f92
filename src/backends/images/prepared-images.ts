/** The images that the driver has prepared since this process started. */
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ImagePreparer } from "../driver/images.ts";
import type { ContentStore } from "./content-store.ts";

/** Makes the driver prepare images, and remembers them. */
export class PreparedImages {
  readonly #content: ContentStore;
  readonly #preparer: ImagePreparer;
  readonly #ids = new Set<string>();

  constructor(content: ContentStore, preparer: ImagePreparer) {
    this.#content = content;
    this.#preparer = preparer;
  }

  /** Makes the driver prepare an image, if necessary again; returns its reference. @throws the driver's error */
  async prepare(record: ImageRecord, signal: AbortSignal): Promise<string> {
    const blobPath = (digest: string): string => this.#content.path(digest);
    const reference = await this.#preparer.prepare(record, blobPath, signal);
    this.#ids.add(record.id);
    return reference;
  }

  /**
   * Whether an image is only prepared at a container's start: most intermediate states of builds on a cloud are never
   * run.
   */
  waitsForStart({ ofBuild }: ImageRecord): boolean {
    return ofBuild && this.#preparer.unpacking.kind === "platform";
  }

  /**
   * Makes the driver discard what it has prepared for an image that was removed, or not installed after all.
   *
   * @param now its record if it has been installed again: what that refers to is kept
   */
  async discard(record: ImageRecord, now: ImageRecord | undefined): Promise<void> {
    if (now?.driverReference !== record.driverReference) {
      try {
        await this.#preparer.discard(record, now);
      } finally {
        this.#ids.delete(record.id); // Another preparation of it may have been discarded with this one.
      }
    }
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** Forgets that an image was prepared. */
  delete(id: string): void {
    this.#ids.delete(id);
  }
}
