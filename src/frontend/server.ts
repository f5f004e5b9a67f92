/** The Docker API on HTTP: from a request to its route's handler, and from whatever the handler threw to an answer. */
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";
import type { TlsOptions } from "node:tls";

import { fromUnknown, SockerlessError, unavailable } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import { maximumApiVersion } from "./api-version.ts";
import { errorReply } from "./http-status.ts";
import { replyError } from "./reply.ts";
import type { FrontendServices, RequestContext } from "./request-context.ts";
import { parseRequestTarget } from "./request-target.ts";
import { type RouteMatch, Router, type Route } from "./router.ts";
import { oldClientReply, pageNotFound } from "./unrouted.ts";
import { handOverRaw } from "./raw-handover.ts";
import { writeRawError } from "./raw-response.ts";

/** How long a shutdown lets requests end by themselves. Waits, logs and events never do. */
const drainMs = 5000;
/** How long a request that was told to end may take to say so to its client. */
const farewellMs = 1000;

/** Go's limit; registry credentials travel in headers and may be long. */
const maxHeaderBytes = 1024 ** 2;

/** What a server is made of. */
export interface DockerApiServerOptions {
  readonly routes: readonly Route[];
  readonly services: FrontendServices;
  readonly logger: Logger;
  /** Of sockerless, for the `Server` header. */
  readonly version: string;
}

/** A request that is being answered. */
interface Exchange {
  readonly end: AbortController;
  readonly socket: Socket;
}

/** Answers the Docker API on any number of listeners. */
export class DockerApiServer {
  readonly #router: Router;
  readonly #services: FrontendServices;
  readonly #logger: Logger;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #listeners = new Set<Server>();
  readonly #exchanges = new Set<Exchange>();
  #drained: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: DockerApiServerOptions) {
    this.#router = new Router(options.routes);
    this.#services = options.services;
    this.#logger = options.logger;
    this.#headers = {
      "Api-Version": maximumApiVersion,
      "Docker-Experimental": "false",
      Ostype: "linux",
      Server: `Sockerless/${options.version} (linux)`,
    };
  }

  /**
   * A listener that is not listening yet. The caller binds it.
   *
   * @param tls certificates; without them it is plain HTTP, for unix sockets only
   */
  createListener(tls?: TlsOptions): Server {
    const options: ServerOptions = {
      maxHeaderSize: maxHeaderBytes,
      keepAlive: true,
      // Docker's SDKs keep idle connections; one that we close under them fails their next request.
      keepAliveTimeout: 0,
      // An upload may take as long as it takes.
      requestTimeout: 0,
      shouldUpgradeCallback: (request) => this.#mayHijack(request),
    };
    const listener = tls === undefined ? createServer(options) : createTlsServer({ ...options, ...tls });
    listener.on(tls === undefined ? "connection" : "secureConnection", (socket: Socket) =>
      handOverRaw(socket, (request) => this.#mayHijack(request)),
    );
    listener.on("request", (request, response) => void this.#answer(request, response));
    listener.on(
      "upgrade",
      (request, socket, head) => void this.#answerUpgrade(request, socket as Socket, head),
    );
    listener.on("close", () => this.#listeners.delete(listener));
    this.#listeners.add(listener);
    return listener;
  }

  /** Stops accepting, lets requests end for a moment, then ends them and cuts every connection. */
  async close(): Promise<void> {
    this.#closing ??= this.#drain();
    await this.#closing;
  }

  async #drain(): Promise<void> {
    const closed = [...this.#listeners].map(
      (listener) => new Promise<void>((resolve) => listener.close(() => resolve())),
    );
    await this.#untilIdle(drainMs);
    for (const { end } of this.#exchanges) {
      end.abort(unavailable("the Docker API is shutting down"));
    }
    await this.#untilIdle(farewellMs);
    for (const { socket } of this.#exchanges) {
      socket.destroy();
    }
    for (const listener of this.#listeners) {
      listener.closeAllConnections();
    }
    await Promise.all(closed);
  }

  async #untilIdle(limitMs: number): Promise<void> {
    if (this.#exchanges.size === 0) {
      return;
    }
    const idle = Promise.withResolvers<void>();
    const timer = setTimeout(idle.resolve, limitMs);
    this.#drained = idle.resolve;
    await idle.promise;
    this.#drained = undefined;
    clearTimeout(timer);
  }

  #begin(socket: Socket): Exchange {
    const exchange = { end: new AbortController(), socket };
    this.#exchanges.add(exchange);
    return exchange;
  }

  #finish(exchange: Exchange): void {
    this.#exchanges.delete(exchange);
    if (this.#exchanges.size === 0) {
      this.#drained?.();
    }
  }

  /** Node asks before it hands a connection over: everything but a hijacking route is ordinary HTTP. */
  #mayHijack(request: IncomingMessage): boolean {
    try {
      return this.#match(request)?.route.hijack === true;
    } catch {
      return false; // The ordinary path finds the same mistake and answers it.
    }
  }

  #match(request: IncomingMessage): RouteMatch | undefined {
    return this.#router.match(request.method ?? "", parseRequestTarget(request.url ?? "/").path);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const exchange = this.#begin(request.socket);
    const started = performance.now();
    let takenOver = false;
    response.on("close", () => {
      if (!response.writableFinished && !takenOver) {
        exchange.end.abort(new Error("the client is gone"));
      }
    });
    for (const [name, value] of Object.entries(this.#headers)) {
      response.setHeader(name, value);
    }
    if (this.#closing !== undefined) {
      response.shouldKeepAlive = false;
    }
    try {
      const match = this.#match(request);
      if (match === undefined) {
        replyError(response, pageNotFound);
        return;
      }
      const context = this.#context(request, match, exchange);
      if (match.route.hijack === true) {
        const takeOver = (): void => {
          takenOver = true;
          request.socket.once("close", () => exchange.end.abort(new Error("the client is gone")));
        };
        await match.route.handler({ ...context, connection: { kind: "response", response }, takeOver });
      } else {
        await match.route.handler({ ...context, response });
      }
    } catch (caught) {
      const error = failureOf(caught, exchange);
      this.#log(request, error, exchange);
      if (takenOver || response.headersSent || response.destroyed) {
        request.socket.destroy();
      } else if (!oldClientReply(request, response, error)) {
        replyError(response, errorReply(error));
      }
    } finally {
      this.#finish(exchange);
      this.#trace(request, response.statusCode, started);
    }
  }

  async #answerUpgrade(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const exchange = this.#begin(socket);
    const started = performance.now();
    let takenOver = false;
    // Node took its own listener off; without one a reset by the client would end the process.
    socket.on("error", () => {});
    socket.once("close", () => exchange.end.abort(new Error("the client is gone")));
    try {
      const match = this.#match(request);
      if (match?.route.hijack !== true) {
        throw new Error("an upgrade that was not asked for"); // #mayHijack said otherwise a moment ago.
      }
      const context = this.#context(request, match, exchange);
      const takeOver = (): void => {
        takenOver = true;
      };
      await match.route.handler({ ...context, connection: { kind: "upgrade", socket, head }, takeOver });
    } catch (caught) {
      const error = failureOf(caught, exchange);
      this.#log(request, error, exchange);
      if (takenOver) {
        socket.destroy();
      } else {
        writeRawError(socket, errorReply(error), this.#headers);
      }
    } finally {
      this.#finish(exchange);
      this.#trace(request, takenOver ? 101 : undefined, started);
    }
  }

  #context(request: IncomingMessage, match: RouteMatch, exchange: Exchange): RequestContext {
    return {
      request,
      parameters: match.parameters,
      query: parseRequestTarget(request.url ?? "/").query,
      version: match.version,
      signal: exchange.end.signal,
      services: this.#services,
      logger: this.#logger,
    };
  }

  #log(request: IncomingMessage, error: unknown, exchange: Exchange): void {
    const { kind, message } = fromUnknown(error);
    if (exchange.end.signal.aborted) {
      return; // Nobody is there to be told, and nothing went wrong.
    }
    const { method, url } = request;
    if (kind === "system") {
      this.#logger.error({ method, url, err: error }, "request failed");
    } else if (kind === "unavailable") {
      this.#logger.warn({ method, url, reason: message }, "request refused");
    }
  }

  #trace(request: IncomingMessage, status: number | undefined, started: number): void {
    const ms = Math.round(performance.now() - started);
    this.#logger.debug({ method: request.method, url: request.url, status, ms }, "request");
  }
}

/** Why a request failed: an abort of ours says more than the "cancelled" that it caused further down. */
function failureOf(caught: unknown, { end: { signal } }: Exchange): unknown {
  return signal.aborted && signal.reason instanceof SockerlessError ? signal.reason : caught;
}
