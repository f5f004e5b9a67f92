/** Input and result of the readers of archive layouts: Docker's two and OCI's. */
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { BlobLease, ContentStore, StoredBlob } from "./content-store.ts";
import type { ImageConfig } from "./image-config.ts";
import type { LayerBlob } from "./layer-blobs.ts";
import type { LayerMeasure } from "./layer-content.ts";

/** Parts of a load that the readers work with. */
export interface ArchiveContext {
  readonly store: ContentStore;
  readonly lease: BlobLease;
  /** Platform whose images are taken; undefined: of a docker archive all, of an index the machine's. */
  readonly platform: Platform | undefined;
  /** Tells what a layer unpacks to; each is read once. @throws as {@link measureLayer} */
  readonly measure: (layer: StoredBlob) => Promise<LayerMeasure>;
  /** Finds a layer that the archive leaves out among the images that there are. */
  readonly findLayer: (diffId: string) => Promise<LayerBlob | undefined>;
}

/** An image found in an archive, its parts in the content store. */
export interface ArchivedImage {
  readonly config: ImageConfig;
  readonly configBlob: StoredBlob;
  /** Bottom first, as many as the configuration has diff IDs. Those that an image here has are measured already. */
  readonly layers: readonly (StoredBlob | LayerBlob)[];
  /** Full names. */
  readonly names: readonly string[];
  /** The image that it was committed on, of the same archive. */
  readonly parentId?: string;
  /** The archive's own manifest; absent where it has none. */
  readonly manifest?: { readonly manifestDigest: string; readonly manifestMediaType: string };
}
