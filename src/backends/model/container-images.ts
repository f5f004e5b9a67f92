/** The images that containers need. */
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../state/state.ts";
import { isRemoved } from "./records.ts";

/**
 * The containers that use an image, running or not: made or being made from it, or mounting it. Containers whose
 * removal was already answered do not count.
 */
export function containersUsingImage(state: State, imageId: string): readonly ContainerRecord[] {
  return state.containers.withImage(imageId).filter((record) => !isRemoved(record));
}
