/** Images as a backend can run them. */
import type { ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ArchiveDownloads, LayerUploads } from "./archives.ts";

/** The unpacking of layers. */
export type LayerUnpacking =
  /** The platform does it where it runs an image: a pull fetches manifest and configuration alone. */
  | { readonly kind: "platform" }
  | {
      readonly kind: "driver";
      /**
       * Unpacks a layer ahead of the image that needs it, which must still be prepared.
       *
       * @returns bytes of its tar, not compressed; undefined: the blob was not read, so that it may be another's
       * @throws invalid: not a whole tar, or another than the diff ID says
       */
      unpack(diffId: string, blobPath: string, signal: AbortSignal): Promise<number | undefined>;
      /** Layers that no image names any more, by diff ID. */
      forget(diffIds: readonly string[]): Promise<void>;
      /** The layers that are there, by diff ID; those that nothing names are forgotten when a backend starts. */
      known(): Promise<readonly string[]>;
    };

/** Images as this backend can run them. The content store and the index are the engine's. */
export interface ImagePreparer {
  /**
   * Makes the image runnable (layers unpacked, or known to the cloud's registry).
   *
   * @returns the driver's reference to what it runs, kept in the image's record; empty: it needs none
   */
  prepare(image: ImageRecord, blobPath: (digest: string) => string, signal: AbortSignal): Promise<string>;
  readonly unpacking: LayerUnpacking;
  readonly uploads: LayerUploads;
  readonly downloads: ArchiveDownloads;
  /** An image was removed, with everything but its layers. */
  discard(image: ImageRecord): Promise<void>;
}
