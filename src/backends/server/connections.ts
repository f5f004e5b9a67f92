/** Connections of a backend's callers: their protocol, their HTTP/2 sessions, and their shutdown. */
import { createServer as createHttp1Server, type IncomingMessage, type ServerResponse } from "node:http";
import {
  constants,
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer as createSocketServer, type Server, type Socket } from "node:net";

import { leastWindow, ReceiveWindow } from "../../agent-client/receive-window.ts";
import { Allowance } from "../../common/allowance.ts";
import { ByteBudget } from "../../common/byte-budget.ts";
import { packWaiting } from "../../common/pack-waiting.ts";
import { readOnDemand } from "../../common/read-on-demand.ts";
import { maxSessionMemory, sessionWindow } from "../../common/session-bounds.ts";
import { PacedResponse } from "./paced-response.ts";

/** Start of every HTTP/2 connection with prior knowledge (RFC 9113, 3.4). */
const http2Preface = Buffer.from("PRI * HTTP/2.0");

/**
 * Frame and window sizes for bulk streams. Callers are authenticated, and those of a frontend share a connection: Node
 * would otherwise take a thousand clients disconnecting at once, or a few of the longest lists, for an attack and cut all
 * calls.
 */
export const http2Settings = {
  settings: { maxFrameSize: 1024 * 1024, initialWindowSize: leastWindow, maxConcurrentStreams: 10_000 },
  maxSessionMemory,
  streamResetBurst: 1_000_000,
  streamResetRate: 1_000_000,
} as const;

/** Answers requests of either protocol. */
export type Handler = (
  request: IncomingMessage | Http2ServerRequest,
  response: ServerResponse | Http2ServerResponse,
) => void;

/** Time for current calls to finish after the listener was closed. */
const drainMs = 5_000;

/** Bytes of the windows of all calls' bodies in this thread, apart from the least of each. */
const bodyWindows = new ByteBudget(32 * 1024 * 1024);
/**
 * Growths of a session's window at once, and the milliseconds after which one more is granted: each may be followed by
 * several shrinks, and a dialling end cuts who changes its window more often.
 */
const mostGrowths = 3;
const growthMs = 8_000;

/** Widens a session's window, limits those of its calls, and keeps it in a set while it is open. */
export function track(session: ServerHttp2Session, sessions: Set<ServerHttp2Session>): void {
  sessions.add(session);
  session.setLocalWindowSize(sessionWindow);
  const window = new ReceiveWindow(session, bodyWindows, new Allowance(mostGrowths, growthMs));
  session.on("stream", (stream, _headers, flags) => {
    if ((flags & constants.NGHTTP2_FLAG_END_STREAM) === 0) {
      countBody(stream, window);
    }
  });
  session.on("error", () => {}); // Its streams report the error to their callers.
  session.once("close", () => sessions.delete(session));
}

/** Counts a body in a window until all of it is read. */
function countBody(stream: ServerHttp2Stream, window: ReceiveWindow): void {
  const ended = Promise.withResolvers<void>();
  packWaiting(stream);
  readOnDemand(stream);
  window.opened();
  // Unlike on(), this does not begin to read.
  stream.prependListener("data", (chunk: Buffer) => window.read(chunk.length));
  stream.once("end", ended.resolve).once("close", ended.resolve);
  void ended.promise.then(() => window.closed());
}

/**
 * A server without TLS for HTTP/2 and HTTP/1.1: the first bytes of a connection decide.
 *
 * @param sessions receives the open HTTP/2 sessions
 */
export function plainServer(handler: Handler, sessions: Set<ServerHttp2Session>): Server {
  const http1 = createHttp1Server(handler);
  // An idle keep-alive connection would delay closing; calls over HTTP/1.1 are few.
  http1.maxRequestsPerSocket = 1;
  const http2 = createHttp2Server({ ...http2Settings, Http2ServerResponse: PacedResponse }, handler);
  http2.on("session", (session) => track(session, sessions));
  return createSocketServer((socket) =>
    byProtocol(socket, {
      http2: () => http2.emit("connection", socket),
      http1: () => http1.emit("connection", socket),
    }),
  );
}

/** Passes a connection on by the protocol of its first bytes, which are still to be read. */
export function byProtocol(socket: Socket, to: Readonly<Record<"http2" | "http1", () => void>>): void {
  socket.on("error", () => socket.destroy());
  socket.once("readable", () => {
    const head = socket.read() as Buffer | null;
    if (head === null) {
      socket.destroy(); // Closed before it sent anything.
      return;
    }
    // A client may split the preface over packets; no HTTP/1.1 method starts with "PRI".
    const isHttp2 = http2Preface.subarray(0, head.length).equals(head.subarray(0, http2Preface.length));
    socket.unshift(head);
    to[isHttp2 ? "http2" : "http1"]();
  });
}

/** The connections that a server opens from now on, while they are open. */
export function connectionsOf(server: Server): ReadonlySet<Socket> {
  const connections = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
  });
  return connections;
}

/** Stops accepting, lets current calls finish for a bounded time, then cuts them. */
export async function closeServer(
  server: { close(closed: () => void): unknown },
  sessions: ReadonlySet<ServerHttp2Session>,
  connections: ReadonlySet<Socket>,
): Promise<void> {
  const closed = Promise.withResolvers<void>();
  server.close(() => closed.resolve());
  for (const session of sessions) {
    session.close();
  }
  const limit = setTimeout(() => cut(connections), drainMs);
  await closed.promise;
  clearTimeout(limit);
}

/** Cuts connections. */
export function cut(connections: ReadonlySet<Socket>): void {
  for (const connection of connections) {
    connection.destroy();
  }
}
