/** The query of a log request, as sent to the agent. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import { invalid } from "../../common/errors.ts";
import type { LogsRequestSchema } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import { flag, text } from "../http/query.ts";
import { parseQueryTime } from "./query-time.ts";

/** More lines than any log has; larger numbers mean all lines. */
const maxTail = 2n ** 63n - 1n;

/** A client's query of a log. */
export interface LogsQuery {
  readonly request: MessageInitShape<typeof LogsRequestSchema>;
  /** True if each line begins with the attributes that the log driver is configured to show. */
  readonly details: boolean;
}

/**
 * Reads the query.
 *
 * @throws SockerlessError of kind `invalid` in dockerd's words
 */
export function logsQueryOf(query: URLSearchParams): LogsQuery {
  const stdout = flag(query, "stdout");
  const stderr = flag(query, "stderr");
  if (!stdout && !stderr) {
    throw invalid("Bad parameters: you must choose at least one stream");
  }
  const since = parseQueryTime(text(query, "since"));
  const until = parseQueryTime(text(query, "until"));
  const tail = tailOf(text(query, "tail"));
  return {
    request: {
      stdout,
      stderr,
      follow: flag(query, "follow"),
      ...(tail === undefined ? {} : { tail }),
      timestamps: flag(query, "timestamps"),
      // Clients send 0 for "not given".
      ...(since === undefined || since === 0n ? {} : { sinceUnixNs: since }),
      ...(until === undefined || until === 0n ? {} : { untilUnixNs: until }),
    },
    details: flag(query, "details"),
  };
}

/** A number of lines; as in dockerd anything else, such as `all`, means all. */
function tailOf(value: string): bigint | undefined {
  if (!/^\+?\d{1,32}$/.test(value)) {
    return undefined;
  }
  const lines = BigInt(value.replace("+", ""));
  return lines > maxTail ? undefined : lines;
}

/** The prefix of each line with `details`: sorted `key=value` pairs and a space. */
export function detailsPrefix(details: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(details)
    .toSorted(([left], [right]) => (left < right ? -1 : 1))
    .map(([key, value]) => `${queryEscape(key)}=${queryEscape(value)}`);
  return `${pairs.join(",")} `;
}

/** Go's url.QueryEscape. */
function queryEscape(value: string): string {
  return encodeURIComponent(value)
    .replaceAll("%20", "+")
    .replaceAll(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}
