/** Dialling the backend: gRPC over one HTTP/2 connection, on a unix socket or TCP with mutual TLS. */
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";

import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { Http2SessionManager } from "@connectrpc/connect-node";

import type { TlsFiles } from "../../common/config/load.ts";
import { errnoOf, fromFileError, messageOf } from "../../common/errors.ts";
import { checkOwnCertificate } from "../../common/own-certificate.ts";
import type { BackendReach } from "../streams/agent-targets.ts";
import { grpcTransport } from "../../agent-client/grpc-transport.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { requestOf } from "../bodies/encoded-fields.ts";
import { dialTls } from "./dial.ts";
import { repeating } from "./repeated-calls.ts";

/** A connection to the backend that is opened by the first call and again by the first call after it was lost. */
export interface BackendTransport {
  readonly transport: Transport;
  /** Ends the connection and every call on it, which are not made again: the backend takes their callers for lost. */
  close(): void;
}

/** A backend behind a network may vanish without a word. */
const pings = { pingIntervalMs: 10_000, pingTimeoutMs: 20_000 } as const;

/** Longer than the supervisor's longest pause and a backend's start. */
const restartLimitMs = 30_000;

/** The errors of a connection that was never made. */
const notListening: ReadonlySet<string> = new Set([
  "ENOENT",
  "ECONNREFUSED",
  "ENOTFOUND",
  "EHOSTUNREACH",
  "ETIMEDOUT",
]);

/**
 * Reads what dialling the backend takes.
 *
 * @param address `unix:///path` or `https://host:port`
 * @param files certificates, for `https`
 * @throws SockerlessError that names the certificate file which cannot be read or used
 */
export async function readBackendReach(address: string, files: TlsFiles | undefined): Promise<BackendReach> {
  if (files === undefined || address.startsWith("unix://")) {
    return { address };
  }
  const [ca, cert, key] = await Promise.all([readPem(files.ca), readPem(files.cert), readPem(files.key)]);
  checkOwnCertificate({ ca, cert, key }, files, "clientAuth");
  return { address, tls: { authority: ca, certificate: cert, key, files } };
}

/** Makes the transport; dials nothing yet. */
export function createBackendTransport(reach: BackendReach): BackendTransport {
  const { address } = reach;
  const onSocket = address.startsWith("unix://");
  const open = new Set<Socket>();
  const createConnection = (): Socket => {
    const socket = onSocket ? connectSoonAnswered(address.slice("unix://".length)) : dialTls(reach);
    open.add(socket);
    return socket.once("close", () => open.delete(socket));
  };
  const baseUrl = onSocket ? "http://backend" : address;
  const session = new Http2SessionManager(baseUrl, onSocket ? {} : pings, { createConnection });
  let isClosed: boolean = false;
  const transport: Transport = grpcTransport(session, {
    peer: "the backend",
    interceptors: [
      explaining(address),
      repeating({
        isClosed: () => isClosed,
        probe: (timeoutMs, signal) => createClient(Health, transport).check({}, { timeoutMs, signal }),
      }),
    ],
  });
  return {
    transport: {
      stream: (...call) => transport.stream(...call),
      unary: (method, signal, timeoutMs, header, input, contextValues) => {
        const request = requestOf(method.input, input) as typeof input;
        return transport.unary(method, signal, timeoutMs, header, request, contextValues);
      },
    },
    close() {
      isClosed = true;
      for (const socket of open) {
        socket.destroy(); // A session resets its streams before it ends, as one does whose callers leave.
      }
      session.abort(new ConnectError("the frontend is shutting down", Code.Unavailable));
    },
  };
}

/** Connects to a socket that may be held for a backend which is started again: the connection waits for it, and not for ever. */
function connectSoonAnswered(path: string): Socket {
  const socket = connect(path);
  const limit = setTimeout(() => {
    if (socket.bytesRead === 0) {
      socket.destroy(Object.assign(new Error("the backend does not answer"), { code: "ETIMEDOUT" }));
    }
  }, restartLimitMs).unref();
  socket.once("close", () => clearTimeout(limit));
  return socket;
}

async function readPem(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw fromFileError(error, `${path}: ${messageOf(error)}`);
  }
}

/** Says what to look at where nobody listens: a user who reads "connect ENOENT" does not know what to do. */
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
