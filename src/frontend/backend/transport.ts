/** Dialling the backend: Connect over one HTTP/2 connection, on a unix socket or TCP with mutual TLS. */
import { readFile } from "node:fs/promises";
import type { ClientSessionOptions, SecureClientSessionOptions } from "node:http2";
import { connect, type Socket } from "node:net";

import { Code, ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, Http2SessionManager } from "@connectrpc/connect-node";

import type { TlsFiles } from "../../common/config/load.ts";
import { errnoOf, fromFileError, messageOf } from "../../common/errors.ts";
import { checkOwnCertificate } from "../../common/own-certificate.ts";
import type { BackendReach } from "../streams/agent-targets.ts";
import { namingRequest } from "../../agent-client/naming-request.ts";
import { withShortUnaryCalls } from "./unary-calls.ts";
import { withBulkUploads } from "./uploads.ts";

/** A connection to the backend that is opened by the first call and again by the first call after it was lost. */
export interface BackendTransport {
  readonly transport: Transport;
  /** Ends the connection and every call on it. */
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
export function createBackendTransport({ address, tls }: BackendReach): BackendTransport {
  const onSocket = address.startsWith("unix://");
  const connectToSocket = (): Socket => connectSoonAnswered(address.slice("unix://".length));
  const sessionOptions: ClientSessionOptions | SecureClientSessionOptions = {
    ...(onSocket ? { createConnection: connectToSocket } : {}),
    ...(tls === undefined
      ? {}
      : { ca: tls.authority, cert: tls.certificate, key: tls.key, minVersion: "TLSv1.2" as const }),
  };
  const baseUrl = onSocket ? "http://backend" : address;
  const session = new Http2SessionManager(baseUrl, onSocket ? {} : pings, sessionOptions);
  const explain = (error: unknown): unknown => explained(error, address);
  // Connect's protocol: a unary call is one request and one answer, without envelopes and trailers; gRPC costs half more.
  const transport = createConnectTransport({
    httpVersion: "2",
    useBinaryFormat: true,
    baseUrl,
    sessionManager: session,
    // Most backends are on this machine, and the bulk is not worth it elsewhere either.
    acceptCompression: [],
    interceptors: [namingRequest, explaining(explain)],
  });
  return {
    transport: withBulkUploads(withShortUnaryCalls(transport, session, explain), session, explain),
    close: () => session.abort(new ConnectError("the frontend is shutting down", Code.Unavailable)),
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

/** A user who reads "connect ENOENT" does not know what to do. */
function explained(error: unknown, address: string): unknown {
  const errno = firstErrno(error);
  if (errno === undefined || !notListening.has(errno)) {
    return error;
  }
  return new ConnectError(
    `cannot connect to the sockerless backend at ${address}: is it running? (${errno})`,
    Code.Unavailable,
    undefined,
    undefined,
    error,
  );
}

function explaining(explain: (error: unknown) => unknown): Interceptor {
  return (next) => async (request) => {
    try {
      return await next(request);
    } catch (error) {
      throw explain(error);
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
