/** What the readers of the two archive layouts are given and what they find. */
import type { Platform } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { ContentStore, StoredBlob } from "./content-store.ts";
import type { ImageConfig } from "./image-config.ts";

/** What the readers of the two layouts work with. */
export interface ArchiveContext {
  readonly store: ContentStore;
  /** Images of other platforms are left out; undefined: a docker archive's all, of an index the machine's. */
  readonly platform: Platform | undefined;
}

/** An image found in an archive, its parts in the content store. */
export interface ArchivedImage {
  readonly config: ImageConfig;
  readonly configBlob: StoredBlob;
  /** Bottom first, as many as the configuration has diff IDs. */
  readonly layers: readonly StoredBlob[];
  /** Full names. */
  readonly names: readonly string[];
  /** Where the archive has one. */
  readonly manifest?: { readonly manifestDigest: string; readonly manifestMediaType: string };
}
