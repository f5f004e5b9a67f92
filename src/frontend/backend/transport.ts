/** Dialling the backend: HTTP/2 connections on a unix socket, or on TCP with mutual TLS. */
import type { ClientHttp2Stream, Http2Session, Settings } from "node:http2";
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";

import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { Http2SessionManager } from "@connectrpc/connect-node";

import type { TlsFiles } from "../../common/config/load.ts";
import { errnoOf } from "../../common/errors.ts";
import { readOwnCertificate } from "../../common/own-certificate.ts";
import { packWaiting } from "../../common/pack-waiting.ts";
import { readOnDemand } from "../../common/read-on-demand.ts";
import { maxSessionMemory, sessionWindow } from "../../common/session-bounds.ts";
import type { BackendReach } from "../streams/agent-targets.ts";
import { grpcTransport } from "../../agent-client/grpc-transport.ts";
import { preparingStreams, type Sessions } from "../../agent-client/lost-streams.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { EventsService } from "../../gen/sockerless/backend/v1/events_pb.ts";
import { hasEncodedFields, requestOf } from "../bodies/encoded-fields.ts";
import { dialTls } from "./dial.ts";
import { awayLimitMs, awayPauseMs, repeating } from "./repeated-calls.ts";
import { unaryTransport } from "./unary-transport.ts";

/**
 * Connections to the backend: one for subscribers of events, one for large requests, and one for all other calls, which
 * would otherwise queue behind each event to a thousand subscribers, and behind megabytes. Each is opened by the first call,
 * and by the first call after a loss.
 */
export interface BackendTransport {
  readonly transport: Transport;
  /** Closes the connections and every call on them without a retry: the backend counts their callers as lost. */
  close(): void;
}

/** A backend across a network may vanish without closing its connections. */
const pings = { pingIntervalMs: 10_000, pingTimeoutMs: 20_000 } as const;

/** A subscriber's window in bytes: thousands may not read, and events come a few at a time. */
const subscriberWindow = 8 * 1024;

/** Longer than the supervisor's longest back-off plus a backend's start. */
const restartLimitMs = 30_000;

/** Error codes of connections that were never established. */
const notListening: ReadonlySet<string> = new Set([
  "ENOENT",
  "ECONNREFUSED",
  "ENOTFOUND",
  "EHOSTUNREACH",
  "ETIMEDOUT",
]);

/** Error codes of connections that were cut. */
const cut: ReadonlySet<string> = new Set(["ECONNRESET", "EPIPE"]);

/**
 * Reads the address and the certificates for dialling the backend.
 *
 * @param address `unix:///path` or `https://host:port`
 * @param files certificates, for `https`
 * @throws SockerlessError that names the certificate file that cannot be read or used
 */
export async function readBackendReach(address: string, files: TlsFiles | undefined): Promise<BackendReach> {
  if (files === undefined || address.startsWith("unix://")) {
    return { address };
  }
  const { ca, cert, key } = await readOwnCertificate(files, "clientAuth");
  return { address, tls: { authority: ca, certificate: cert, key, files } };
}

/** Creates the transport; dials nothing yet. */
export function createBackendTransport(reach: BackendReach): BackendTransport {
  const { address } = reach;
  const onSocket = address.startsWith("unix://");
  const open = new Set<Socket>();
  const createConnection = (): Socket => {
    const socket = onSocket ? connectToHeldSocket(address.slice("unix://".length)) : dialTls(reach);
    open.add(socket);
    return socket.once("close", () => open.delete(socket));
  };
  const baseUrl = onSocket ? "http://backend" : address;
  let isClosed: boolean = false;
  const sessions: Http2SessionManager[] = [];
  const connection = (settings: Settings = {}): Transport => {
    const session = new Http2SessionManager(baseUrl, onSocket ? {} : pings, {
      createConnection,
      maxSessionMemory,
      settings,
    });
    sessions.push(session);
    const connections = retryingConnections(session, () => isClosed);
    const options = {
      peer: "the backend",
      interceptors: [
        explaining(address),
        repeating({
          isClosed: () => isClosed,
          probe: (timeoutMs, signal) => createClient(Health, transport).check({}, { timeoutMs, signal }),
        }),
      ],
    };
    const { stream } = grpcTransport(preparingStreams(connections, readPacked), options);
    const { unary } = unaryTransport(connections, options);
    const transport: Transport = { stream, unary };
    return transport;
  };
  const events = connection({ initialWindowSize: subscriberWindow });
  const [calls, large] = [connection(), connection()];
  return {
    transport: {
      stream: (method, ...call) => (method.parent === EventsService ? events : calls).stream(method, ...call),
      unary: (method, signal, timeoutMs, header, input, contextValues) => {
        const request = requestOf(method.input, input) as typeof input;
        const { unary } = hasEncodedFields(input) ? large : calls;
        return unary(method, signal, timeoutMs, header, request, contextValues);
      },
    },
    close() {
      isClosed = true;
      for (const socket of open) {
        socket.destroy(); // Closing the session would reset its streams first, as if their callers had left.
      }
      for (const session of sessions) {
        session.abort(new ConnectError("the frontend is shutting down", Code.Unavailable));
      }
    },
  };
}

/**
 * Dials again if a backend dies while a connection to it is being established, for instance in a TLS handshake: for ten
 * seconds, as no request was sent yet.
 */
function retryingConnections(session: Http2SessionManager, isClosed: () => boolean): Sessions {
  return {
    authority: session.authority,
    notifyResponseByteRead: (stream) => session.notifyResponseByteRead(stream),
    request: async (...request) => {
      const from = performance.now();
      for (;;) {
        try {
          return prepared(await session.request(...request));
        } catch (error) {
          if (!cut.has(firstErrno(error) ?? "") || performance.now() - from >= awayLimitMs) {
            throw error;
          }
          await delay(awayPauseMs);
          if (isClosed()) {
            throw error;
          }
        }
      }
    },
  };
}

/**
 * Widens the window of a stream's session, and listens for its errors for its lifetime. The library's manager removes its
 * own listener when it opens another session, even before a destroyed one emits its error, which would end the process
 * without a listener.
 */
function prepared(stream: ClientHttp2Stream): ClientHttp2Stream {
  const { session } = stream;
  if (session !== undefined && !preparedSessions.has(session)) {
    preparedSessions.add(session.on("error", () => {}));
    session.setLocalWindowSize(sessionWindow);
  }
  return stream;
}

const preparedSessions = new WeakSet<Http2Session>();

/** Joins what waits: chunks may be smaller than what keeps them. */
function readPacked(stream: ClientHttp2Stream): ClientHttp2Stream {
  packWaiting(stream);
  return readOnDemand(stream);
}

/** Connects to a socket that the supervisor may hold for a restarting backend; the wait is bounded. */
function connectToHeldSocket(path: string): Socket {
  const socket = connect(path);
  const limit = setTimeout(() => {
    if (socket.bytesRead === 0) {
      socket.destroy(Object.assign(new Error("the backend does not answer"), { code: "ETIMEDOUT" }));
    }
  }, restartLimitMs).unref();
  socket.once("close", () => clearTimeout(limit));
  return socket;
}

/** Adds to the error what to check if nobody listens: "connect ENOENT" alone does not help a user. */
function explaining(address: string): Interceptor {
  return (next) => async (request) => {
    try {
      return await next(request);
    } catch (error) {
      const errno = firstErrno(error);
      if (errno === undefined || !notListening.has(errno)) {
        throw error;
      }
      const message = `cannot connect to the sockerless backend at ${address}: is it running? (${errno})`;
      throw new ConnectError(message, Code.Unavailable, undefined, undefined, error);
    }
  };
}

function firstErrno(error: unknown): string | undefined {
  for (let each = error; each instanceof Error; each = each.cause) {
    const errno = errnoOf(each);
    if (errno !== undefined) {
      return errno;
    }
  }
  return undefined;
}
