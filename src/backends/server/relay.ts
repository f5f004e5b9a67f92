/**
 * The relay: a backend forwards calls of `sockerless.agent.v1.AgentService` to the agent of the container named in the
 * metadata, for frontends that cannot dial agents themselves. Nothing is decoded: frames, headers and trailers pass
 * unchanged, with back-pressure both ways.
 *
 * A call cut by the agent ends with a status other than OK, so that no caller takes it for a success.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import {
  type ClientHttp2Stream,
  constants,
  type Http2Stream,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { Code } from "@connectrpc/connect";
import {
  type AgentTarget,
  containerIdHeader,
  datagramsHeader,
  type DialTarget,
} from "../../agent-client/address.ts";
import type { AgentConnection, StreamOptions } from "../../agent-client/connection.ts";
import type { ConnectionPool } from "../../agent-client/connection-pool.ts";
import { errorKindHeader, fromUnknown, messageOf } from "../../common/errors.ts";
import { isFullId } from "../../common/ids.ts";
import { onceKnown, resetByLostCaller } from "../concurrency/caller-lost.ts";
import { AgentService } from "../../gen/sockerless/agent/v1/agent_pb.ts";

/** Bytes of the receive windows of all answers that a relay forwards, apart from the least of each. */
export const relayedWindows = 32 * 1024 * 1024;

/** Path prefix of the relay's calls. */
export const relayedPrefix = "/sockerless.agent.v1.AgentService/";

/**
 * Finds the agent of a container: its own while it runs, otherwise the one that serves stored files. Undefined if there
 * is no such container.
 */
export type AgentResolver = (containerId: string) => Promise<AgentTarget | undefined>;

/**
 * Headers for a single hop. Node throws when sending those of HTTP/1 over HTTP/2, and accepts `http2-settings` from a
 * peer.
 */
const hopHeaders: ReadonlySet<string> = new Set([
  "host",
  "connection",
  "http2-settings",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

/** Calls that may send more than their receivers read: see {@link StreamOptions.carriesInput}. */
const withInput: ReadonlySet<string> = new Set(
  (["session", "archivePut", "tunnel"] as const).map((call) => AgentService.method[call].name),
);

/** Forwards a call; ends the stream in every case. @param agents connections shared by calls */
export async function relayAgentCall(
  request: Http2ServerRequest,
  response: Http2ServerResponse,
  resolveAgent: AgentResolver,
  agents: ConnectionPool,
): Promise<void> {
  const { stream, headers } = request;
  // Resets by the caller surface as errors of a stream that is no longer read.
  stream.on("error", () => {});
  const containerId = String(headers[containerIdHeader] ?? "");
  if (!isFullId(containerId)) {
    refuse(stream, Code.InvalidArgument, `the metadata ${containerIdHeader} must be a container's full ID`);
    return;
  }
  // Calls that are reset at once, by the ten thousand, ask for no agent.
  await nextTurn();
  if (isGone(stream)) {
    return;
  }
  try {
    const target = await resolveAgent(containerId);
    if (target === undefined) {
      refuse(stream, Code.NotFound, `No such container: ${containerId}`);
      return;
    }
    if (isGone(stream)) {
      return;
    }
    await forward(request, response, await agentCall(target, request, agents));
  } catch (error) {
    refuse(stream, Code.Unavailable, messageOf(error), error);
  }
}

/**
 * Forwards a call to another listener of the same service, whatever its protocol; ends the stream in every case. A call
 * that is cut is reset.
 */
export async function forwardCall(
  request: Http2ServerRequest,
  response: Http2ServerResponse,
  target: DialTarget,
  connections: ConnectionPool,
): Promise<void> {
  const { stream } = request;
  stream.on("error", () => {});
  // Calls that are reset at once, by the ten thousand, do not reach the main thread.
  await nextTurn();
  if (isGone(stream)) {
    return;
  }
  try {
    await forward(request, response, { connection: connections.connectionTo(target) });
  } catch {
    stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }
}

/** How a call is forwarded. */
interface Forwarding {
  readonly connection: Pick<AgentConnection, "request" | "failureOf" | "notifyRead">;
  readonly carriesInput?: boolean;
  /** Status for a cut response, sent in its trailers, or as the response; undefined: the stream is reset. */
  readonly cutStatus?: (message: string) => OutgoingHttpHeaders;
}

async function agentCall(
  target: AgentTarget,
  { url, headers }: Http2ServerRequest,
  agents: ConnectionPool,
): Promise<Forwarding> {
  const { credentials } = target;
  const shown = typeof credentials === "function" ? await credentials() : credentials;
  const isForDatagrams = headers[datagramsHeader] !== undefined;
  // Input of a process would wait behind a flood of datagrams.
  const use = isForDatagrams ? "datagrams" : undefined;
  return {
    connection: agents.connectionTo({ ...target, credentials: shown }, use),
    carriesInput: withInput.has(url.slice(relayedPrefix.length)) && !isForDatagrams,
    cutStatus: (message) => statusHeaders(Code.Unavailable, message),
  };
}

/**
 * Bodies are passed on from stream to stream; headers and trailers go through `response`, because Node's request/response
 * layer claims the stream's trailers.
 */
async function forward(
  request: Http2ServerRequest,
  response: Http2ServerResponse,
  { connection, carriesInput = false, cutStatus }: Forwarding,
): Promise<void> {
  const { stream, headers } = request;
  const upstream = await connection.request(request.method, request.url, endToEnd(headers), { carriesInput });
  if (isGone(stream)) {
    upstream.close(constants.NGHTTP2_CANCEL);
    return;
  }
  const answered = (answer: IncomingHttpHeaders & IncomingHttpStatusHeader, flags: number): void => {
    const status = answer[":status"] ?? 200;
    if (isGone(stream)) {
      return;
    }
    if ((flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0) {
      stream.respond({ ":status": status, ...endToEnd(answer) }, { endStream: true });
      upstream.resume();
      return;
    }
    response.writeHead(status, endToEnd(answer));
    if (cutStatus !== undefined) {
      response.addTrailers(cutStatus("the agent's answer was cut"));
    }
    // Must come after the header: over a link, Node emits bytes that arrive together with the header before the header
    // itself.
    passOn(upstream, stream, { end: cutStatus !== undefined });
    upstream.on("data", (chunk: Buffer) => connection.notifyRead(upstream, chunk.length));
  };
  upstream.on("response", (answer, flags) => {
    try {
      answered(answer, flags);
    } catch {
      upstream.close(constants.NGHTTP2_PROTOCOL_ERROR); // A malicious agent's response, for example with an invalid status.
    }
  });
  upstream.on("trailers", (sent) => {
    response.addTrailers({ ...(cutStatus !== undefined && { "grpc-message": "" }), ...endToEnd(sent) });
  });
  upstream.on("error", () => {}); // "close" follows and handles it.
  upstream.once("end", () => {
    // A reset stream also emits "end".
    if (cutStatus === undefined && !wasReset(upstream) && !stream.destroyed) {
      stream.end();
    }
  });
  upstream.once("close", () => {
    if (isGone(stream) || stream.writableEnded) {
      return;
    }
    if (cutStatus === undefined) {
      stream.close(wasReset(upstream) ? upstream.rstCode : constants.NGHTTP2_INTERNAL_ERROR);
    } else if (!stream.headersSent) {
      refuse(stream, Code.Unavailable, "the agent closed the call without an answer");
    } else {
      const failure = connection.failureOf(upstream);
      if (failure !== undefined) {
        response.addTrailers(cutStatus(failure.rawMessage));
      }
      // All that came before the cut is passed on.
      for (let came: unknown = upstream.read(); came !== null; came = upstream.read()) {
        stream.write(came);
      }
      stream.end();
    }
  });
  const caller = stream.session;
  const leave = (): void =>
    onceKnown(caller, (hasEnded) => {
      if (!upstream.closed) {
        upstream.close(hasEnded ? resetByLostCaller : constants.NGHTTP2_CANCEL);
      }
    });
  // A stream that the caller resets without an error closes only once everything it sent is read.
  stream.once("aborted", leave).once("close", leave);
  passOn(stream, upstream, { end: true });
}

/**
 * Passes bytes on as they are taken, so that no more than a window of them waits; `pipe` has three times as much wait.
 * Bytes that a closed stream does not take are discarded, as they would otherwise keep the other open.
 *
 * @param from is read on demand
 */
function passOn(from: Http2Stream, to: Http2Stream, { end }: { readonly end: boolean }): void {
  const pass = (): void => {
    // Node's read() gives 16 KiB, each of which would be a turn of the event loop.
    const chunk: unknown = from.destroyed ? null : from.read(from.readableLength || undefined);
    if (chunk !== null) {
      to.write(chunk, pass);
    }
  };
  from.on("readable", () => {
    if (to.writableLength === 0 || to.destroyed) {
      pass();
    }
  });
  to.once("close", pass);
  if (end && from.readableEnded) {
    to.end(); // A request without a body has ended before its agent was found.
  } else if (end) {
    from.once("end", () => to.end());
  }
}

/** True if the caller no longer waits for a response. */
function isGone(stream: ServerHttp2Stream): boolean {
  return stream.destroyed || stream.aborted;
}

function wasReset({ rstCode }: ClientHttp2Stream): boolean {
  return (rstCode ?? constants.NGHTTP2_NO_ERROR) !== constants.NGHTTP2_NO_ERROR;
}

/** Headers that are passed on to the next hop. */
function endToEnd(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !hopHeaders.has(name) && !name.startsWith(":")),
  );
}

/** Ends a call that has no response yet, with a gRPC status (a trailers-only response). */
function refuse(stream: ServerHttp2Stream, code: Code, message: string, cause?: unknown): void {
  if (isGone(stream)) {
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
