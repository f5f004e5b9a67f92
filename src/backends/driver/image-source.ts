/** The engine's contract with the images: what containers are made from, and what is made of containers. */
import type { ContainerConfig, Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ImageSummary } from "../../gen/sockerless/backend/v1/image_pb.ts";
import type { ImageRecord, SealedImage } from "../../gen/sockerless/state/v1/state_pb.ts";

/** An image as a container is made from it. */
export interface ResolvedImage {
  readonly record: ImageRecord;
  /** The image's defaults (its configuration's `config`), in the shape of what a user says. */
  readonly config: ContainerConfig;
}

/** The images, as far as containers need them. */
export interface ImageSource {
  /** Deletes content that the state does not know: nothing is believed to be lost any more. */
  collectUnneeded(): Promise<void>;

  /** Whether there is content that the state does not know. */
  hasUnneeded(): Promise<boolean>;

  /**
   * The image that a reference means: a name in any spelling, a digest, an ID or an unambiguous prefix of one.
   *
   * @param platform the image must have it; undefined: any that this backend runs
   * @throws not-found with Docker's `No such image: …`; invalid: not a reference, or ambiguous
   */
  resolve(reference: string, platform?: Platform): Promise<ResolvedImage>;

  /** The ID that {@link resolve} would find, from memory alone; undefined where it would throw. */
  idOf(reference: string): string | undefined;

  /** An image's ID and those of the images that were committed on it, on those, and so on. */
  descentOf(id: string): ReadonlySet<string>;

  /**
   * As {@link makeRunnable}, for a container's creation: a build's state that the platform pulls waits for the start, as
   * most are never run.
   */
  makeReady(image: ImageRecord, signal: AbortSignal): Promise<void>;

  /** Has the driver make the image runnable, where that has not been done yet. May be repeated. */
  makeRunnable(image: ImageRecord, signal: AbortSignal): Promise<void>;

  /**
   * Makes an image of what a container changed, on top of the container's image.
   *
   * @throws not-found: the container's image is gone; invalid: the name, the configuration, or what the layer turns out
   *   to be
   */
  commit(request: ImageCommit): Promise<CommittedImage>;

  /**
   * Takes over an image that a container of a lost state needs, whose layers are elsewhere. One that is there is left as
   * it is, and so are names that others have.
   *
   * @throws invalid: what describes it is not what its record names
   */
  adopt(image: SealedImage): Promise<void>;

  /**
   * The layers of an image, by its ID, held until disposed of.
   *
   * @param signal ends fetching and reading
   * @throws not-found; system: a registry does not give those that are still there
   */
  openLayers(imageId: string, signal: AbortSignal): Promise<ImageLayers>;

  /** Clears away those of a removed container's layers (diff IDs) that nothing needs any more. */
  forgetUnusedLayers(diffIds: readonly string[]): Promise<void>;

  /** All images with the sizes that they share, and bytes of all layers, shared ones once. */
  diskUsage(): { readonly layersSize: bigint; readonly images: readonly ImageSummary[] };
}

/** An image's layers, held. */
export interface ImageLayers extends AsyncDisposable {
  /** Bottom first; each is opened as a tar, compressed or not. */
  readonly layers: readonly { readonly open: () => AsyncIterable<Uint8Array> }[];
}

/** An image to be made of a container. */
export interface ImageCommit {
  /** ID of the image that the container stands on. */
  readonly parentId: string;
  /** The container's changes as the tar of an OCI layer. Fails where the signal aborts. */
  readonly layer: AsyncIterable<Uint8Array>;
  /** The new image's defaults. */
  readonly config: ContainerConfig;
  /** For the image's history. */
  readonly createdBy: string;
  readonly author: string;
  readonly comment: string;
  /** New name; empty: none. */
  readonly reference: string;
  /** The container is a step of a build: users do not see the image. */
  readonly ofBuild?: boolean;
  /**
   * The image's configuration (JSON), in the place of all that is said of it above, but for its layers: the image's
   * beneath and one more, whatever has changed.
   */
  readonly imageConfig?: Uint8Array;
  readonly signal: AbortSignal;
}

/** An image that was made of a container. */
export interface CommittedImage {
  readonly id: string;
  /** Digests of its layers, unpacked, bottom first. */
  readonly diffIds: readonly string[];
  /** Bytes of the tar of the container's changes. */
  readonly changesSize: number;
}
