/** What the engine asks of images, and what images ask of the engine. */
import type { ContainerConfig, Platform } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { ContainerRecord, ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../state/state.ts";
import { isRemoved } from "./records.ts";

/** An image as a container is made from it. */
export interface ResolvedImage {
  readonly record: ImageRecord;
  /** The image's defaults (its configuration's `config`), in the shape of what a user says. */
  readonly config: ContainerConfig;
}

/** The image store, as far as containers need it. */
export interface ImageSource {
  /**
   * The image that a reference means: a name in any spelling, a digest, an ID or an unambiguous prefix of one.
   *
   * @param platform the image must have it; undefined: any that this backend runs
   * @throws not-found with Docker's `No such image: …`; invalid: not a reference, or ambiguous
   */
  resolve(reference: string, platform?: Platform): Promise<ResolvedImage>;

  /** The ID that {@link resolve} would find, from memory alone; undefined where it would throw. */
  idOf(reference: string): string | undefined;

  /** Has the driver make the image runnable, where that has not been done yet. May be repeated. */
  makeRunnable(image: ImageRecord, signal: AbortSignal): Promise<void>;
}

/** The containers made, or being made, from an image, running or not; those whose removal was answered do not count. */
export function containersUsingImage(state: State, imageId: string): readonly ContainerRecord[] {
  return [...state.containers.values()].filter((record) => record.imageId === imageId && !isRemoved(record));
}
