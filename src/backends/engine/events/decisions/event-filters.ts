/** Filters of events (`docker events --filter`). Pure. */
import type { StringList } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import type { Event } from "../../../../gen/sockerless/backend/v1/events_pb.ts";
import { Filters } from "../../../model/filters.ts";

/** Kinds of objects of events; each is a filter by the object's ID or name. */
const types = ["container", "daemon", "network", "plugin", "volume", "service", "node", "secret", "config"];

const accepted = [...types, "event", "image", "label", "scope", "type"];

/** Actions with a text after a colon: without it, a filter matches all of them. */
const actionsWithText = ["health_status", "exec_create", "exec_start", "start_phase", "prepared_task"];

/** Actions that Docker does not have: only included if a filter names them, as clients may count Docker's events. */
const ownActions = ["start_phase", "prepared_task"];

/** Compiles filters to a predicate. @throws invalid: an unknown filter */
export function eventFilter(values: Readonly<Record<string, StringList>>): (event: Event) => boolean {
  const filters = new Filters(values, accepted);
  const byPrefix = filters.get("event").some((action) => actionsWithText.includes(action));
  const unwanted = ownActions.filter((own) => !filters.get("event").some((action) => action.startsWith(own)));
  return (event) =>
    !unwanted.some((own) => event.action.startsWith(own)) &&
    (byPrefix
      ? filters.matchesPrefix("event", event.action)
      : filters.matchesExactly("event", event.action)) &&
    filters.matchesExactly("type", event.type) &&
    filters.matchesExactly("scope", "local") &&
    types.every(
      (type) =>
        filters.matchesPrefix(type, event.actorId) ||
        filters.matchesPrefix(type, event.attributes["name"] ?? ""),
    ) &&
    matchesImage(filters, event) &&
    filters.matchesPairs("label", event.attributes);
}

/** Matches an image's own events and those of its containers, with or without the tag. */
function matchesImage(filters: Filters, event: Event): boolean {
  const name = event.attributes[event.type === "image" ? "name" : "image"] ?? "";
  return [event.actorId, name, withoutTag(event.actorId), withoutTag(name)].some((text) =>
    filters.matchesExactly("image", text),
  );
}

/** `docker.io/library/nginx:latest@sha256:…` → `nginx`. */
function withoutTag(image: string): string {
  const [withoutDigest = ""] = image.split("@", 1);
  return withoutDigest.replace(/:[^/:]*$/, "").replace(/^docker\.io\/(library\/)?/, "");
}
