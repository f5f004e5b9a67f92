/** The engine's contract with the images: containers are made from them, and commits make new ones. */
import type { ContainerConfig, Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ImageSummary } from "../../gen/sockerless/backend/v1/image_pb.ts";
import type { ImageRecord, SealedImage } from "../../gen/sockerless/state/v1/state_pb.ts";

/** An image for the creation of a container. */
export interface ResolvedImage {
  readonly record: ImageRecord;
  /** The image's defaults (`config` in its configuration), in the format of a user's settings. */
  readonly config: ContainerConfig;
}

/** The image operations that containers need. */
export interface ImageSource {
  /** Deletes content unknown to the state; called once no lost state is waiting to be recovered. */
  collectUnneeded(): Promise<void>;

  /** Whether there is content unknown to the state. */
  hasUnneeded(): Promise<boolean>;

  /**
   * Resolves a reference to an image: a name in any form, a digest, an ID or an unambiguous prefix of one.
   *
   * @param platform the platform that the image must have; undefined for any that this backend runs
   * @throws not-found with Docker's `No such image: …`; invalid: not a reference, or ambiguous
   */
  resolve(reference: string, platform?: Platform): Promise<ResolvedImage>;

  /** The ID that {@link resolve} would find, looked up in memory; undefined if it would throw. */
  idOf(reference: string): string | undefined;

  /** The IDs of images and of all images committed on top of them, directly or indirectly. */
  descentOf(ids: readonly string[]): ReadonlySet<string>;

  /**
   * Like {@link makeRunnable}, but for a container's creation: if the platform pulls images, a build's intermediate
   * state is only made runnable at the start, as most are never run.
   */
  makeReady(image: ImageRecord, signal: AbortSignal): Promise<void>;

  /** Makes the driver prepare the image to run, unless that was done already. May be repeated. */
  makeRunnable(image: ImageRecord, signal: AbortSignal): Promise<void>;

  /** Unpacks an image's layers that have gone from this machine; false if the platform has them. */
  unpackAnew(image: ImageRecord, signal: AbortSignal): Promise<boolean>;

  /**
   * Makes an image from a container's changes, on top of the container's image.
   *
   * @throws not-found if the container's image is gone; invalid for the name, the configuration, or the layer's content
   */
  commit(request: ImageCommit): Promise<CommittedImage>;

  /**
   * Adds an image needed by a container of a lost state; the layers are elsewhere. Existing images, and names in use,
   * are left as they are.
   *
   * @throws invalid if the image's description does not match its record
   */
  adopt(image: SealedImage): Promise<void>;

  /**
   * The layers of an image, by its ID, kept until disposed.
   *
   * @param signal ends fetching and reading
   * @throws not-found; system if a registry does not return the layers not fetched yet
   */
  openLayers(imageId: string, signal: AbortSignal): Promise<ImageLayers>;

  /** Deletes those of a removed container's layers (diff IDs) that nothing needs any more. */
  forgetUnusedLayers(diffIds: readonly string[]): Promise<void>;

  /** The bytes of all layers, each layer counted once. */
  layersSize(): bigint;

  /** All images that users see, with their shared sizes. @throws the signal's reason */
  listWithSizes(signal: AbortSignal): Promise<ImageSummary[]>;
}

/** An image's layers, kept until disposed. */
export interface ImageLayers extends AsyncDisposable {
  /** Bottom first; each opens as a tar, compressed or not. */
  readonly layers: readonly { readonly open: () => AsyncIterable<Uint8Array> }[];
}

/** An image to be made from a container. */
export interface ImageCommit {
  /** ID of the container's image. */
  readonly parentId: string;
  /** The container's changes as the tar of an OCI layer; fails if the signal aborts. */
  readonly layer: AsyncIterable<Uint8Array>;
  /** The new image's defaults. */
  readonly config: ContainerConfig;
  /** For the image's history. */
  readonly createdBy: string;
  readonly author: string;
  readonly comment: string;
  /** Name of the new image; empty for none. */
  readonly reference: string;
  /** True for the container of a build step: users do not see its image. */
  readonly ofBuild?: boolean;
  /**
   * The image's configuration (JSON); replaces all settings above except the layers, which are the parent image's plus
   * one, whatever changed.
   */
  readonly imageConfig?: Uint8Array;
  readonly signal: AbortSignal;
}

/** An image made from a container. */
export interface CommittedImage {
  readonly id: string;
  /** Digests of its uncompressed layers, bottom first. */
  readonly diffIds: readonly string[];
  /** Size of the tar of the container's changes, in bytes. */
  readonly changesSize: number;
}
