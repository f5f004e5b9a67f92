/** Input and result of the readers for archive formats: Docker's two and OCI's. */
import { invalid } from "../../common/errors.ts";
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { BlobLease, ContentStore, StoredBlob } from "./content-store.ts";
import type { ImageConfig } from "./image-config.ts";
import type { LayerBlob } from "./layer-blobs.ts";
import type { LayerMeasure } from "./layer-content.ts";

/** The most images of an archive; a user's has only a few. */
const mostImages = 4_096;

/** The most names of all images of an archive. */
const mostArchiveNames = 2 * mostImages;

/** The most bytes of an archive's manifests and configurations together, with the objects made from them. */
export const mostDocumentBytes = 64 * 1024 ** 2;

/** The most values, lists and objects in them together: labels are in each list of images. */
export const mostDocumentValues = 200_000;

/** Dependencies of the readers. */
export interface ArchiveContext {
  readonly store: ContentStore;
  readonly lease: BlobLease;
  /** Platform to select images by; undefined: all images of a docker archive, the machine's of an index. */
  readonly platform: Platform | undefined;
  /**
   * Reads a manifest or a configuration.
   *
   * @throws invalid: it is too large, or all that were read are, together
   */
  readonly readDocument: (blob: StoredBlob) => Promise<Uint8Array>;
  /** Counts bytes that are kept besides those of documents that were read. @throws as {@link readDocument} */
  readonly hold: (bytes: number) => void;
  /** Measures the uncompressed layer; reads each layer once. @throws as {@link measureLayer} */
  readonly measure: (layer: StoredBlob) => Promise<LayerMeasure>;
  /**
   * Finds a layer that the archive omits among the existing images; looks for each once.
   *
   * @param stack diff IDs of the image that it is for, bottom first
   */
  readonly findLayer: (diffId: string, stack: readonly string[]) => Promise<LayerBlob | undefined>;
}

/** An image found in an archive, with its parts in the content store. */
export interface ArchivedImage {
  readonly config: ImageConfig;
  readonly configBlob: StoredBlob;
  /** Bottom first, one per diff ID of the configuration. Layers of existing images are already measured. */
  readonly layers: readonly (StoredBlob | LayerBlob)[];
  /** Full names. */
  readonly names: readonly string[];
  /** ID of the parent image that it was committed on, in the same archive. */
  readonly parentId?: string;
  /** The archive's own manifest, if it has one. */
  readonly manifest?: { readonly manifestDigest: string; readonly manifestMediaType: string };
}

/** The refusal of an archive whose documents are too large. */
export function tooLarge(): Error {
  return invalid("the archive's manifests and configurations are too large together");
}

/** @throws invalid: an archive has too many images */
export function refuseTooManyImages(count: number): void {
  if (count > mostImages) {
    throw invalid(`archive has more than ${mostImages} images`);
  }
}

/** @throws invalid: an archive gives its images too many names */
export function refuseTooManyNames(count: number): void {
  if (count > mostArchiveNames) {
    throw invalid(`archive has more than ${mostArchiveNames} names of images`);
  }
}
