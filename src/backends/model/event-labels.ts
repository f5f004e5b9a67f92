/** Labels of objects in their events. */
import { weightOf } from "../state/weights.ts";

/** The most that an event's labels weigh: it is written with each, and sent to each client that follows. */
const mostWeight = 65_536;

/** The most that the labels of all events of a change weigh: of an image that is removed each name has one. */
const mostTogether = 16 * mostWeight;

/**
 * The labels that an object's events have: all of them, or none where they are many or long.
 *
 * @param events of one change that have them
 */
export function eventLabels(
  labels: Readonly<Record<string, string>> = {},
  events = 1,
): Readonly<Record<string, string>> {
  const weight = weightOf(labels);
  return weight > mostWeight || events * weight > mostTogether ? {} : labels;
}
