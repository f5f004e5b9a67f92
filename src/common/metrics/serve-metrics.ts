/** The listener of `--metrics-addr`: metrics, and whether the program lives and is ready. */
import {
  createServer,
  type IncomingMessage,
  type Server as HttpServer,
  type ServerResponse,
} from "node:http";
import type { Socket } from "node:net";

import type { TlsFiles } from "../config/load.ts";
import { isLoopback } from "../config/loopback.ts";
import { messageOf } from "../errors.ts";
import { forgetOldest } from "../forget-oldest.ts";
import { hasBody } from "../has-body.ts";
import type { HeldSockets } from "../held-sockets.ts";
import { listen, readMutualTls, reloadCertificates } from "../listen.ts";
import type { Logger } from "../logger.ts";
import { interceptParser } from "../request-parser.ts";
import { logStrangers } from "../strangers.ts";
import { TlsTerminator } from "../tls-terminator.ts";

/** A part of the program that is ready or not. */
export interface Part {
  /** `backend`, `state`. */
  readonly name: string;
  /** The reason why it is not ready; empty: it is. */
  readonly problem: string;
}

/** The source of the answers. */
export interface MetricsSource {
  /** Prometheus' text format. */
  metrics(): Promise<string>;
  parts(): Promise<readonly Part[]>;
}

/** A listener that serves. */
export interface MetricsListener {
  /** The address in use, with the actual port in place of 0. */
  readonly address: string;
  /** Reads the certificates again; absent without TLS. */
  reload?(): Promise<string>;
  close(): Promise<void>;
}

/** The address, and how it is served. */
export interface MetricsAddress {
  /** `unix:///path` or `tcp://address:port`. */
  readonly address: string;
  /** Demanded of addresses that others than this machine reach. */
  readonly tls: TlsFiles | undefined;
  readonly held?: HeldSockets | undefined;
  readonly logger: Logger;
}

/** Most connections at a time, of whoever reaches the address; in a flood, the oldest belong to the flood. */
const maxConnections = 64;
/** Milliseconds for a handshake and a request, and without progress of an answer. */
const patienceMs = 15_000;
const limits = {
  headersTimeout: patienceMs,
  requestTimeout: patienceMs,
  connectionsCheckingInterval: 1_000,
  shouldUpgradeCallback: hasBody, // Node cuts what nobody takes over.
};

/**
 * Serves `/metrics`, `/livez` and `/readyz`.
 *
 * @throws SockerlessError where the address cannot be listened on or a certificate cannot be read
 */
export async function serveMetrics(
  { address, tls, held, logger }: MetricsAddress,
  source: MetricsSource,
): Promise<MetricsListener> {
  const shared: MetricsSource = { metrics: oneAtATime(source.metrics), parts: oneAtATime(source.parts) };
  const asked = new WeakSet<Socket>();
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const { socket } = request;
    if (asked.has(socket)) {
      socket.destroy(); // Node reads on: ten thousand requests that do not wait would each be answered.
      return;
    }
    asked.add(socket);
    void reply(shared, request, response);
  };
  const isPlain = address.startsWith("unix://") || isLoopback(address);
  if (!isPlain && tls === undefined) {
    throw new Error(
      "an address beyond this machine without certificates passed the check of the configuration",
    );
  }
  const server = createServer(limits, answer);
  server.timeout = patienceMs;
  boundConnections(server);
  server.on("connection", refuseBodies);
  const access = { mode: 0o660, serves: "metrics" } as const;
  if (isPlain || tls === undefined) {
    const bound = await listen(server, address, access, held);
    return { address: bound, close: () => closeAll(server) };
  }
  const terminator = await TlsTerminator.start({
    tls: await readMutualTls(tls),
    protocols: ["http/1.1"],
    strangers: maxConnections,
    serve: (socket) => void server.emit("connection", socket),
    report: (news) => logStrangers(logger, news),
    logger,
  });
  server.emit("listening"); // Node looks after the time of headers from then on.
  const close = async (): Promise<void> => {
    await closeAll(server);
    await terminator.close();
  };
  try {
    const bound = await listen(terminator.createListener(), address, access, held);
    return { address: bound, reload: () => reloadCertificates([terminator], tls), close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function closeAll(server: HttpServer): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}

/** The process behind the listener serves an API as well: strangers must not take its descriptors. */
function boundConnections(server: HttpServer): void {
  const connections = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
    forgetOldest(connections, maxConnections)?.destroy();
  });
}

/** Cuts requests with a body before it is parsed: a body in tiny chunks would take much time and memory. */
function refuseBodies(socket: Socket): void {
  const parse = interceptParser(socket, {
    data: (chunk) => parse?.(chunk),
    header: hasBody,
    dispatched: () => {},
  });
}

/** Lets a task run once at a time, however many ask: those that ask meanwhile get the same answer. */
function oneAtATime<T>(task: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined;
  return () =>
    (running ??= task().finally(() => {
      running = undefined;
    }));
}

/** Answers the one request of a connection. */
async function reply(
  source: MetricsSource,
  { method, url }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const text = (status: number, body: string, type = "text/plain; charset=utf-8"): void => {
    response
      .writeHead(status, { "Content-Type": type, Connection: "close" })
      .end(method === "HEAD" ? undefined : body);
  };
  if (method !== "GET" && method !== "HEAD") {
    text(405, "only GET\n");
    return;
  }
  try {
    switch (url?.replace(/\?.*$/s, "")) {
      case "/metrics":
        text(200, await source.metrics(), "text/plain; version=0.0.4; charset=utf-8");
        break;
      case "/livez":
        text(200, "ok\n");
        break;
      case "/readyz": {
        const parts = await source.parts();
        const isReady = parts.every(({ problem }) => problem === "");
        const lines = parts.map(({ name, problem }) => `${name}: ${problem === "" ? "ok" : problem}\n`);
        text(isReady ? 200 : 503, lines.join(""));
        break;
      }
      default:
        text(404, "there are /metrics, /livez and /readyz\n");
    }
  } catch (error) {
    text(500, `${messageOf(error)}\n`);
  }
}
