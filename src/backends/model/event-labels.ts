/** Labels of objects in their events. */
import { weightOf } from "../state/weights.ts";

/** The most that an event's labels weigh: it is written with each, and sent to each client that follows. */
const mostWeight = 65_536;

/** The labels that an object's events have: all of them, or none where they are many or long. */
export function eventLabels(labels: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  return weightOf(labels) > mostWeight ? {} : labels;
}
