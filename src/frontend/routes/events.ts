/** `/events`. */
import { invalid, systemError } from "../../common/errors.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import { eventToJson } from "../convert/events.ts";
import { parseQueryTime } from "../convert/query-time.ts";
import { readFilters } from "../filters.ts";
import { text } from "../http/query.ts";
import { replyPart } from "../http/reply.ts";
import type { ReplyContext } from "../request-context.ts";
import type { Route } from "../router.ts";

/** The route of events. */
export const eventRoutes: readonly Route[] = [
  { method: "GET", path: "/events", kind: "stream", handler: getEvents },
];

async function getEvents({ query, version, signal, services, response }: ReplyContext): Promise<void> {
  const sinceUnixNs = parseQueryTime(text(query, "since"));
  const untilUnixNs = parseQueryTime(text(query, "until"));
  if (sinceUnixNs !== undefined && untilUnixNs !== undefined && untilUnixNs < sinceUnixNs) {
    throw invalid(
      `\`since\` time (${text(query, "since")}) cannot be after \`until\` time (${text(query, "until")})`,
    );
  }
  const messages = services.backend.events.subscribeEvents(
    {
      filters: readFilters(query),
      ...(sinceUnixNs === undefined ? {} : { sinceUnixNs }),
      ...(untilUnixNs === undefined ? {} : { untilUnixNs }),
    },
    { signal },
  );
  for await (const { message } of messages) {
    switch (message.case) {
      case "accepted":
        response.writeHead(200, { "Content-Type": "application/json" });
        response.flushHeaders();
        break;
      case "event": {
        const event = message.value;
        // Image create events exist since 1.46; older clients cannot handle them.
        if (event.type === "image" && event.action === "create" && version.before("1.46")) {
          break;
        }
        await replyPart(response, `${stringifyJson(eventToJson(event))}\n`, signal);
        break;
      }
      case "end":
        response.end();
        return;
      default: // A heartbeat, or a kind of a newer version.
    }
  }
  throw systemError("the backend ended the events without saying so");
}
