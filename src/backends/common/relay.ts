/**
 * The relay: a backend forwards calls of `sockerless.agent.v1.AgentService` to
 * the agent of the container that the metadata names, for frontends that
 * cannot dial agents themselves. Nothing is decoded: frames, headers and
 * trailers pass as they are, with back-pressure both ways.
 *
 * A call that the agent's side cuts ends with a status other than OK, so that
 * nobody takes it for a success.
 */
import {
  constants,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { Code } from "@connectrpc/connect";
import { type AgentTarget, containerIdHeader } from "../../agent-client/address.ts";
import type { StreamOptions } from "../../agent-client/connection.ts";
import type { ConnectionPool } from "../../agent-client/connection-pool.ts";
import { errorKindHeader, fromUnknown, messageOf } from "../../common/errors.ts";
import { isFullId } from "../../common/ids.ts";
import { AgentService } from "../../gen/sockerless/agent/v1/agent_pb.ts";

/** Paths of calls that are the relay's. */
export const relayedPrefix = "/sockerless.agent.v1.AgentService/";

/**
 * How the agent of a container is dialled: its own while it runs, else the one
 * that serves stored files. undefined: no such container.
 */
export type AgentResolver = (containerId: string) => Promise<AgentTarget | undefined>;

/** Headers that belong to one HTTP/2 hop. */
const hopHeaders = new Set([":method", ":path", ":scheme", ":authority", "host", "connection"]);

/** Calls that may send more than their readers take: see {@link StreamOptions.carriesInput}. */
const withInput: ReadonlySet<string> = new Set(
  (["session", "archivePut", "tunnel"] as const).map((call) => AgentService.method[call].name),
);

/** Forwards one call; ends the stream in every case. @param agents connections that calls share */
export async function relayAgentCall(
  request: Http2ServerRequest,
  response: Http2ServerResponse,
  resolveAgent: AgentResolver,
  agents: ConnectionPool,
): Promise<void> {
  const { stream, headers } = request;
  // Resets by the caller surface as errors of a stream that nobody reads any more.
  stream.on("error", () => {});
  const containerId = String(headers[containerIdHeader] ?? "");
  if (!isFullId(containerId)) {
    refuse(stream, Code.InvalidArgument, `the metadata ${containerIdHeader} must be a container's full ID`);
    return;
  }
  try {
    const target = await resolveAgent(containerId);
    if (target === undefined) {
      refuse(stream, Code.NotFound, `No such container: ${containerId}`);
      return;
    }
    await forward(request, response, target, agents);
  } catch (error) {
    refuse(stream, Code.Unavailable, messageOf(error), error);
  }
}

/**
 * Bodies are piped from stream to stream; headers and trailers go through
 * `response`, because Node's request/response layer claims the stream's
 * trailers for itself.
 */
async function forward(
  request: Http2ServerRequest,
  response: Http2ServerResponse,
  target: AgentTarget,
  agents: ConnectionPool,
): Promise<void> {
  const { stream, headers } = request;
  const { credentials } = target;
  const shown = typeof credentials === "function" ? await credentials() : credentials;
  const connection = agents.connectionTo({ ...target, credentials: shown });
  const carriesInput = withInput.has(request.url.slice(relayedPrefix.length));
  const upstream = await connection.request("POST", request.url, endToEnd(headers), { carriesInput });
  if (stream.destroyed) {
    upstream.close(constants.NGHTTP2_CANCEL);
    return;
  }
  upstream.on("response", (answer, flags) => {
    const status = answer[":status"] ?? 200;
    if (stream.destroyed) {
      return;
    }
    if ((flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0) {
      stream.respond({ ":status": status, ...endToEnd(answer) }, { endStream: true });
      upstream.resume();
      return;
    }
    response.writeHead(status, endToEnd(answer));
    response.addTrailers(statusHeaders(Code.Unavailable, "the agent's answer was cut"));
    // Not sooner: over a link, Node tells of bytes that came with the header before it tells of the header.
    upstream.pipe(stream);
  });
  upstream.on("trailers", (sent) => {
    response.addTrailers({ "grpc-message": "", ...endToEnd(sent) });
  });
  upstream.on("error", () => {}); // "close" follows and tells
  upstream.once("close", () => {
    if (!stream.headersSent) {
      refuse(stream, Code.Unavailable, "the agent closed the call without an answer");
    } else if (!stream.writableEnded && !stream.destroyed) {
      stream.end();
    }
  });
  stream.once("close", () => {
    if (!upstream.closed) {
      upstream.close(constants.NGHTTP2_CANCEL);
    }
  });
  stream.pipe(upstream);
}

/** Headers that pass from one hop to the next. */
function endToEnd(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !hopHeaders.has(name) && !name.startsWith(":")),
  );
}

/** Ends a call that got no answer yet with a gRPC status (a trailers-only response). */
function refuse(stream: ServerHttp2Stream, code: Code, message: string, cause?: unknown): void {
  if (stream.destroyed) {
    return;
  }
  if (stream.headersSent) {
    stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    return;
  }
  stream.respond(
    {
      ":status": 200,
      "content-type": "application/grpc",
      ...statusHeaders(code, message),
      ...(cause !== undefined && { [errorKindHeader]: fromUnknown(cause).kind }),
    },
    { endStream: true },
  );
}

function statusHeaders(code: Code, message: string): OutgoingHttpHeaders {
  return { "grpc-status": String(code), "grpc-message": encodeURIComponent(message) };
}
