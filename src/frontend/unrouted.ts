/** Answers to requests without a handler. */
import type { IncomingMessage, ServerResponse } from "node:http";

import { ApiVersion, minimumApiVersion } from "./api-version.ts";
import { type ErrorReply, errorReply } from "./http-status.ts";

/** The answer to a path that no route has, and to a known path with another method. */
export const pageNotFound: ErrorReply = { status: 404, message: "page not found" };

/**
 * Answers a client of an API version before 1.24 in plain text: such clients print the body verbatim.
 *
 * @returns false, with nothing written, for any other client
 */
export function oldClientReply(request: IncomingMessage, response: ServerResponse, error: unknown): boolean {
  const version = /^\/v([0-9.]+)\//.exec(request.url ?? "")?.[1];
  if (version === undefined || !new ApiVersion(version).before(minimumApiVersion)) {
    return false;
  }
  const { status, message } = errorReply(error);
  const body = `${message}\n`;
  response.writeHead(status, {
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Length": Buffer.byteLength(body),
    "X-Content-Type-Options": "nosniff",
  });
  response.end(body);
  return true;
}
