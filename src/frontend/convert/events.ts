/** Events, and the time range of a client's query. */
import { invalid } from "../../common/errors.ts";
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

/**
 * Reads a time of the query: Unix seconds, with decimals or without.
 *
 * @returns nanoseconds since the epoch; undefined if not given
 * @throws SockerlessError of kind `invalid`
 */
export function unixNanoseconds(value: string): bigint | undefined {
  if (value === "") {
    return undefined;
  }
  const found = /^([+-]?\d{1,18})(?:\.(\d{1,18}))?$/.exec(value);
  if (found === null) {
    throw invalid(`strconv.ParseInt: parsing ${JSON.stringify(value)}: invalid syntax`);
  }
  const [, seconds = "0", decimals = ""] = found;
  return BigInt(seconds) * nsPerSecond + BigInt(decimals.slice(0, 9).padEnd(9, "0"));
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
