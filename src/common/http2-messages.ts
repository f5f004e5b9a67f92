/** Rules for both ends of a call that is one HTTP/2 message each way. */
import type { Http2Stream, IncomingHttpHeaders } from "node:http2";

/** The content type of Connect's unary messages in binary form. */
export const unaryContentType = "application/proto";

/**
 * The body of a message whose stream has just ended.
 *
 * Node ends a stream that was cut like one that is complete, and a cut body may well be a valid one: it is whole when it
 * is as long as its header says, or, without a length, when the stream was not destroyed.
 *
 * @returns undefined where it was cut
 */
export function wholeBody(
  stream: Http2Stream,
  headers: IncomingHttpHeaders,
  chunks: readonly Buffer[],
): Buffer | undefined {
  const [only] = chunks;
  const body = only !== undefined && chunks.length === 1 ? only : Buffer.concat(chunks);
  const length = headers["content-length"];
  const isWhole = length === undefined ? !stream.destroyed : Number(length) === body.length;
  return isWhole ? body : undefined;
}

/** Headers without HTTP/2's own, as `fetch` has them. */
export function plainHeaders(headers: IncomingHttpHeaders): Headers {
  return new Headers(
    Object.entries(headers).flatMap(([name, value]): [string, string][] =>
      name.startsWith(":") || value === undefined ? [] : [[name, String(value)]],
    ),
  );
}
