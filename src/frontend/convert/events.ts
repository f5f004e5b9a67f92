/** Events. */
import type { Event } from "../../gen/sockerless/backend/v1/events_pb.ts";
import { unlessEmpty } from "./json-values.ts";

const nsPerSecond = 1_000_000_000n;

/** One line of `GET /events`. */
export function eventToJson(event: Event): Record<string, unknown> {
  return {
    ...legacyFields(event),
    Type: event.type,
    Action: event.action,
    Actor: { ID: event.actorId, Attributes: event.attributes },
    scope: "local",
    time: event.timeUnixNs / nsPerSecond,
    timeNano: event.timeUnixNs,
  };
}

/** Legacy fields from before events had types; those of containers and images still have them. */
function legacyFields(event: Event): Record<string, unknown> {
  if (event.type === "container") {
    return {
      status: event.action,
      id: event.actorId,
      from: unlessEmpty(event.attributes["image"] ?? ""),
    };
  }
  return event.type === "image" ? { status: event.action, id: event.actorId } : {};
}
