/** Dialling the backend: Connect over one HTTP/2 connection, on a unix socket or TCP with mutual TLS. */
import { readFile } from "node:fs/promises";
import type { ClientSessionOptions, SecureClientSessionOptions } from "node:http2";
import { connect } from "node:net";

import { Code, ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, Http2SessionManager } from "@connectrpc/connect-node";

import type { TlsFiles } from "../common/config/load.ts";
import { errnoOf, fromFileError, messageOf } from "../common/errors.ts";
import type { BackendReach } from "./streams/agent-targets.ts";
import { withShortUnaryCalls } from "./unary-calls.ts";

/** A connection to the backend that is opened by the first call and again by the first call after it was lost. */
export interface BackendTransport {
  readonly transport: Transport;
  /** Ends the connection and every call on it. */
  close(): void;
}

/** A backend behind a network may vanish without a word. */
const pings = { pingIntervalMs: 10_000, pingTimeoutMs: 20_000 } as const;

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
 * @throws SockerlessError that names the certificate file which cannot be read
 */
export async function readBackendReach(address: string, files: TlsFiles | undefined): Promise<BackendReach> {
  if (files === undefined || address.startsWith("unix://")) {
    return { address };
  }
  const [authority, certificate, key] = await Promise.all([
    readPem(files.ca),
    readPem(files.cert),
    readPem(files.key),
  ]);
  return { address, tls: { authority, certificate, key } };
}

/** Makes the transport; dials nothing yet. */
export function createBackendTransport({ address, tls }: BackendReach): BackendTransport {
  const onSocket = address.startsWith("unix://");
  const sessionOptions: ClientSessionOptions | SecureClientSessionOptions = {
    ...(onSocket ? { createConnection: () => connect(address.slice("unix://".length)) } : {}),
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
    interceptors: [explaining(explain)],
  });
  return {
    transport: withShortUnaryCalls(transport, session, explain),
    close: () => session.abort(new ConnectError("the frontend is shutting down", Code.Unavailable)),
  };
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
