/** Images in the form that a backend can run. */
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ArchiveDownloads, LayerUploads } from "./archives.ts";

/** How layers are unpacked. */
export type LayerUnpacking =
  /** The platform does it when it runs an image: a pull only fetches manifest and configuration. */
  | { readonly kind: "platform" }
  | {
      readonly kind: "driver";
      /**
       * Unpacks a layer before its image is prepared, which is still necessary.
       *
       * @returns bytes of the uncompressed tar; undefined if the blob was not read, so that its content is unverified
       * @throws invalid if it is not a complete tar, or does not match the diff ID
       */
      unpack(diffId: string, blobPath: string, signal: AbortSignal): Promise<number | undefined>;
      /** Removes layers, by diff ID, that no image uses any more. */
      forget(diffIds: readonly string[]): Promise<void>;
      /** Existing layers, by diff ID; unused ones are removed when a backend starts. */
      known(): Promise<readonly string[]>;
    };

/** Prepares images to run on this backend. The engine owns the content store and the index. */
export interface ImagePreparer {
  /**
   * Makes the image runnable (layers unpacked, or known to the cloud's registry).
   *
   * @returns the driver's reference to it, stored in the image's record; empty if it needs none
   */
  prepare(image: ImageRecord, blobPath: (digest: string) => string, signal: AbortSignal): Promise<string>;
  /** Whether it can run images that no registry has. */
  readonly keepsOwn: boolean;
  readonly unpacking: LayerUnpacking;
  readonly uploads: LayerUploads;
  readonly downloads: ArchiveDownloads;
  /**
   * Called when an image was removed, for everything but its layers.
   *
   * @param now the image's record if it has come again meanwhile, with another reference
   */
  discard(image: ImageRecord, now?: ImageRecord): Promise<void>;
}
