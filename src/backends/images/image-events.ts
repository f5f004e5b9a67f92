/** Events of images in Docker's form: their attributes are the image's labels and a name. */
import { eventLabels } from "../model/event-labels.ts";
import type { NewEvent } from "../state/journal.ts";
import type { ImageConfig } from "./image-config.ts";

/** Actions of image events. */
export type ImageAction =
  | "create"
  | "pull"
  | "push"
  | "load"
  | "save"
  | "import"
  | "tag"
  | "untag"
  | "delete";

/**
 * An event of an image.
 *
 * @param actorId the image's ID; for a pull its reference
 * @param name value of the attribute `name`
 * @param events of one change that are as this one
 */
export function imageEvent(
  action: ImageAction,
  actorId: string,
  name: string,
  config: ImageConfig | undefined,
  events = 1,
): NewEvent {
  const labels = eventLabels(config?.config.labels, events);
  return { type: "image", action, actorId, attributes: { ...labels, name } };
}

/** The event of a prune. */
export function pruneEvent(reclaimed: bigint): NewEvent {
  return { type: "image", action: "prune", actorId: "", attributes: { reclaimed: String(reclaimed) } };
}
