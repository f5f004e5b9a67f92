/** The Docker API on HTTP: from a request to its route's handler, and from whatever the handler threw to an answer. */
import { createServer, type IncomingMessage, type Server, type ServerOptions } from "node:http";
import type { Socket } from "node:net";
import { setImmediate as nextTurn } from "node:timers/promises";

import { fromUnknown, SockerlessError } from "../common/errors.ts";
import { logFailure } from "../common/failures.ts";
import { getOrInsert } from "../common/get-or-insert.ts";
import { hasBody } from "../common/has-body.ts";
import type { Logger } from "../common/logger.ts";
import { requestAnswered } from "../common/metrics/measure.ts";
import { packWaiting } from "../common/pack-waiting.ts";
import { forRequest, newRequestId, requestIdHeaders } from "../common/request-id.ts";
import { beginSpan } from "../common/tracing.ts";
import {
  Admission,
  type AdmissionLimits,
  type Admitted,
  admittedAtOnce,
  mostConnections,
  TooManyRequests,
  usualLimits,
} from "./admission.ts";
import { maximumApiVersion } from "./api-version.ts";
import { HandedRequests } from "./handed-requests.ts";
import { ApiResponse } from "./http/api-response.ts";
import { watchClient } from "./http/client-presence.ts";
import { type Exchange, Exchanges } from "./http/exchanges.ts";
import { readHijackedBody } from "./hijack.ts";
import { errorReply } from "./http-status.ts";
import { replyError, replyRedirect } from "./http/reply.ts";
import { RequestPace } from "./http/request-pacing.ts";
import type { FrontendServices, ReplyContext, RequestContext } from "./request-context.ts";
import {
  checkHost,
  checkTransferEncoding,
  parseRequestTarget,
  type RequestTarget,
  UnsupportedTransferEncoding,
} from "./http/request-target.ts";
import { type RouteMatch, Router, type Route } from "./router.ts";
import { oldClientReply, pageNotFound } from "./unrouted.ts";
import { LongHeaders } from "./http/long-headers.ts";
import { loggedUrl } from "./http/request-target.ts";
import { closeBehindAnswer, lingerMs, longestLingerMs, writeRawError } from "./http/raw-response.ts";

/** Go's limit; registry credentials travel in headers and may be long. */
const maxHeaderBytes = 1024 ** 2;

/** Maximum total bytes of unfinished headers, and of those of requests, not counting headers of ordinary size. */
const longHeadersBytes = 64 * 1024 ** 2;

/** Milliseconds for the rest of a call's body, if no transfer slot is free for it. */
const restOfBodyMs = 250;

type ApiServer = Server<typeof IncomingMessage, typeof ApiResponse>;
type ApiServerOptions = ServerOptions<typeof IncomingMessage, typeof ApiResponse>;

/** A parsed request line with its route; undefined if there is none. */
interface RequestLine {
  readonly target: RequestTarget;
  readonly match: RouteMatch | undefined;
}

/** Why a header is refused. */
interface Refusal {
  readonly refusal: unknown;
}

/** Dependencies of a server. */
export interface DockerApiServerOptions {
  readonly routes: readonly Route[];
  readonly services: FrontendServices;
  readonly logger: Logger;
  /** The version of sockerless, for the `Server` header. */
  readonly version: string;
  readonly limits?: AdmissionLimits;
  /** Bounds long headers together with other servers'; by default the server's own. */
  readonly longHeaders?: LongHeaders;
}

/** Answers the Docker API on any number of listeners. */
export class DockerApiServer {
  readonly #router: Router;
  readonly #services: FrontendServices;
  readonly #logger: Logger;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #listeners = new Set<ApiServer>();
  readonly #exchanges: Exchanges;
  readonly #admission: Admission;
  readonly #paces = new WeakMap<Socket, RequestPace>();
  readonly #longHeaders: LongHeaders;
  readonly #handed: HandedRequests;
  readonly #lines = new WeakMap<IncomingMessage, RequestLine | Refusal>();
  #tooMany = 0;
  #closing: Promise<void> | undefined;

  constructor(options: DockerApiServerOptions) {
    this.#router = new Router(options.routes);
    this.#services = options.services;
    this.#logger = options.logger;
    const { limits = usualLimits() } = options;
    const own = () => new LongHeaders(longHeadersBytes, (reason) => this.#noteTooMany(reason));
    this.#longHeaders = options.longHeaders ?? own();
    this.#admission = new Admission(limits);
    this.#exchanges = new Exchanges(mostConnections(limits));
    const headers = {
      "Api-Version": maximumApiVersion,
      "Docker-Experimental": "false",
      Ostype: "linux",
      Server: `Sockerless/${options.version} (linux)`,
    };
    this.#headers = headers;
    this.#handed = new HandedRequests({
      ...{ handOver: options.services.handOver, exchanges: this.#exchanges, logger: options.logger, headers },
      server: {
        turnOf: (match, request, exchange) => this.#turnOf(match, request, exchange),
        contextOf: (request, match, exchange) => this.#context(request, match, exchange),
        answer: (request, response, raw) => this.#answer(request, response, raw),
        log: (request, error, exchange) => this.#log(request, error, exchange),
        trace: (request, status, started) => this.#trace(request, status, started),
      },
    });
  }

  /** Creates a listener of plain HTTP that the caller binds, or passes connections to. */
  createListener(): ApiServer {
    const options: ApiServerOptions = {
      ServerResponse: ApiResponse,
      maxHeaderSize: maxHeaderBytes,
      keepAlive: true,
      // Docker's SDKs keep idle connections; if we closed one, their next request would fail.
      keepAliveTimeout: 0,
      // An upload may take as long as it takes.
      requestTimeout: 0,
      shouldUpgradeCallback: (request) => this.#mayHijack(request),
    };
    const listener = createServer(options);
    // As in Go's server: a client may half-close and still read its answer (`printf … | nc -NU`).
    (listener as ApiServer & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true;
    listener.on("connection", (socket: Socket) => {
      this.#admission.arrived();
      if (!this.#paces.has(socket)) {
        packWaiting(socket); // A client may send each byte by itself.
      }
      this.#exchanges.track(socket);
      this.#exchanges.serve(socket);
      const mayHijack = (request: IncomingMessage): boolean => this.#mayHijack(request);
      this.#paces.set(socket, new RequestPace(socket, mayHijack, this.#longHeaders));
    });
    listener.on("request", (request, response) =>
      this.#begin(request, () => this.#answer(request, response)),
    );
    listener.on("upgrade", (request, socket: Socket, head) => {
      const rest = this.#paces.get(socket)?.takeRest() ?? Buffer.alloc(0);
      const match = this.#matchOf(request);
      const all = Buffer.concat([head, rest]);
      if (match?.route.hijack === true) {
        this.#begin(request, () => this.#answerRaw(request, socket, all));
      } else if (match !== undefined) {
        this.#begin(request, () => this.#handed.answer(request, { match, socket, rest: all, listener }));
      }
    });
    // Node's own answer would bypass the accounting.
    listener.on("checkExpectation", (request, response) => {
      this.#paces.get(request.socket)?.began(response);
      response.writeHead(417, { "Content-Length": 0 }).end();
    });
    listener.on("close", () => this.#listeners.delete(listener));
    this.#listeners.add(listener);
    return listener;
  }

  #begin(request: IncomingMessage, answer: () => Promise<void>): void {
    const answering = async (): Promise<void> => {
      using _header = this.#longHeaders.use(request);
      await answer();
    };
    forRequest(newRequestId(), () => beginSpan(request.headers, () => void answering()));
  }

  /**
   * Stops accepting, waits a moment for requests to end, then aborts them and closes every connection.
   *
   * @param outlasted called before remaining requests are aborted
   */
  async close(outlasted: () => void = () => {}): Promise<void> {
    this.#closing ??= this.#drain(outlasted);
    await this.#closing;
  }

  async #drain(outlasted: () => void): Promise<void> {
    const closed = [...this.#listeners].map(
      (listener) => new Promise<void>((resolve) => listener.close(() => resolve())),
    );
    await this.#exchanges.drain(outlasted);
    await Promise.all(closed);
  }

  /** Node's check before an upgrade: only hijacking routes and handed-over requests leave ordinary HTTP. */
  #mayHijack(request: IncomingMessage): boolean {
    const match = this.#matchOf(request);
    return match !== undefined && (match.route.hijack === true || this.#handed.mayHand(request, match));
  }

  #matchOf(request: IncomingMessage): RouteMatch | undefined {
    try {
      return this.#match(request);
    } catch {
      return undefined; // The ordinary path detects the same error and answers it.
    }
  }

  #match(request: IncomingMessage): RouteMatch | undefined {
    return this.#lineOf(request).match;
  }

  /** Parses a request line; cached, as it is needed several times. @throws the refusal of the header */
  #lineOf(request: IncomingMessage): RequestLine {
    const line = getOrInsert(this.#lines, request, () => this.#parse(request));
    if ("refusal" in line) {
      throw line.refusal;
    }
    return line;
  }

  #parse(request: IncomingMessage): RequestLine | Refusal {
    try {
      this.#longHeaders.hold(request);
      checkHost(request);
      checkTransferEncoding(request);
      const target = parseRequestTarget(request.url ?? "/");
      return { target, match: this.#router.match(request.method ?? "", target.path) };
    } catch (refusal) {
      return { refusal };
    }
  }

  async #answer(
    request: IncomingMessage,
    response: ApiResponse,
    raw: Pick<ReplyContext, "connection" | "taken"> = {},
  ): Promise<void> {
    const exchange = this.#exchanges.begin(request.socket);
    const started = performance.now();
    const stopWatching = watchClient(request, response, exchange, this.#services.clock);
    this.#paces.get(request.socket)?.began(response);
    for (const [name, value] of Object.entries({ ...this.#headers, ...requestIdHeaders() })) {
      response.setHeader(name, value);
    }
    if (this.#closing !== undefined) {
      response.shouldKeepAlive = false;
    }
    try {
      const match = this.#match(request);
      if (match === undefined) {
        const { canonical } = this.#lineOf(request).target;
        if (canonical === undefined) {
          replyError(response, pageNotFound);
        } else {
          replyRedirect(response, canonical);
        }
        return;
      }
      if (match.route.hijack === true) {
        throw new Error("a request to hijack that was parsed"); // RequestPace passes such a request to #answerRaw.
      }
      // A request whose body an agent reads was admitted before that.
      using turns = new DisposableStack();
      const turn = raw.taken === undefined ? await this.#turnOf(match, request, exchange) : admittedAtOnce;
      turns.use(turn);
      const keepTurn = keeperOf(turns);
      response.beforeHeader = turn.answers;
      using held = new DisposableStack();
      const context = this.#context(request, match, exchange);
      const answered = match.route.handler({ ...context, response, keepTurn, held, ...raw });
      if (raw.connection === undefined) {
        dropUnread(request, match.route);
      }
      await answered;
    } catch (caught) {
      const error = failureOf(caught, exchange);
      this.#log(request, error, exchange);
      if (error instanceof TooManyRequests || error instanceof UnsupportedTransferEncoding) {
        // Another process has the connection and may still answer; or the position of the next request is unknown.
        response.shouldKeepAlive = false;
        request.resume();
      }
      if (error instanceof UnsupportedTransferEncoding) {
        await nextTurn(); // Node's parser answers most of them itself, and cuts off the answer being written.
      }
      if (response.headersSent || response.destroyed) {
        exchange.connection.destroy(); // `pipeline` takes it from a request that it could not pass on.
      } else if (!oldClientReply(request, response, error)) {
        replyError(response, errorReply(error));
      }
    } finally {
      stopWatching();
      this.#exchanges.finish(exchange);
      this.#trace(request, response.statusCode, started);
    }
  }

  async #answerRaw(request: IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const exchange = this.#exchanges.begin(socket);
    const started = performance.now();
    const headers = { ...this.#headers, ...requestIdHeaders() };
    let takenOver = false;
    let status: number | undefined;
    let isText = false;
    // Node has removed its own listener; without one a reset by the client would crash the process.
    socket.on("error", () => {});
    socket.unshift(head);
    socket.once("close", () => exchange.end.abort(new Error("the client is gone")));
    try {
      const match = this.#match(request);
      if (match?.route.hijack !== true) {
        throw new Error("a connection handed over for nothing"); // #mayHijack has ruled this out.
      }
      isText = match.route.refusesInText === true;
      using turns = new DisposableStack();
      let body: Buffer = Buffer.alloc(0);
      const arrive = async (): Promise<void> => {
        if (hasBody(request)) {
          body = await readHijackedBody(request, socket);
        }
      };
      const turn = turns.use(await this.#turnOf(match, request, exchange, arrive));
      const context = this.#context(request, match, exchange);
      const takeOver = (): void => {
        takenOver = true;
        status = 101;
        turn.answers();
      };
      const keepTurn = keeperOf(turns);
      await match.route.handler({ ...context, socket, body, headers, keepTurn, takeOver });
    } catch (caught) {
      const error = failureOf(caught, exchange);
      this.#log(request, error, exchange);
      if (takenOver) {
        socket.destroy();
      } else {
        const reply = errorReply(error);
        status = reply.status;
        writeRawError(socket, reply, headers, isText);
      }
    } finally {
      if (socket.writableEnded) {
        closeBehindAnswer(socket, takenOver ? longestLingerMs : lingerMs);
      }
      this.#exchanges.finish(exchange);
      this.#trace(request, status, started);
    }
  }

  /** @param arrive takes the body of a request to hijack */
  async #turnOf(
    { route }: RouteMatch,
    request: IncomingMessage,
    { end }: Exchange,
    arrive?: () => Promise<void>,
  ): Promise<Admitted> {
    const { signal } = end;
    if (route.answeredBy === "frontend") {
      this.#admission.arrived();
      await arrive?.();
      return admittedAtOnce;
    }
    const turn = await this.#enter(route, request, end, arrive);
    if (signal.aborted) {
      turn[Symbol.dispose](); // Its client left while it waited.
      signal.throwIfAborted();
    }
    return turn;
  }

  /** Admits a request by its kind; a call whose body is still incomplete counts as a transfer. */
  async #enter(
    route: Route,
    request: IncomingMessage,
    end: AbortController,
    arrive: (() => Promise<void>) | undefined,
  ): Promise<Admitted> {
    const { kind = "call" } = route;
    const { signal } = end;
    if (kind !== "call" || arrive !== undefined) {
      return await this.#admission.enter(kind, route, arrive);
    }
    await nextTurn(); // Lets the parser read on in the header's packet.
    await nextTurn(); // A client that has left is known by now, and nothing is done for it.
    if (request.socket.destroyed) {
      end.abort(new Error("the client is gone"));
    }
    signal.throwIfAborted();
    if (hasArrivedWhole(request)) {
      return await this.#admission.enter(kind, route);
    }
    try {
      return await this.#admission.enter("transfer", route);
    } catch (error) {
      // Clients that send header and body separately, such as docker-py, are admitted beside a flood of transfers.
      await this.#services.clock.sleep(restOfBodyMs, signal);
      if (!request.complete) {
        throw error;
      }
      return await this.#admission.enter("call", route);
    }
  }

  #context(request: IncomingMessage, match: RouteMatch, exchange: Exchange): RequestContext {
    return {
      request,
      parameters: match.parameters,
      query: this.#lineOf(request).target.query,
      version: match.version,
      signal: exchange.end.signal,
      services: this.#services,
      logger: this.#logger,
    };
  }

  #log(request: IncomingMessage, error: unknown, exchange: Exchange): void {
    const { kind, message } = fromUnknown(error);
    if (exchange.end.signal.aborted) {
      return; // The client is gone, and nothing failed.
    }
    const { method } = request;
    const url = loggedUrl(request);
    const { status } = errorReply(error);
    if (error instanceof TooManyRequests) {
      this.#logger.debug({ method, url, status, reason: message }, "request refused");
      this.#noteTooMany(message);
    } else if (kind === "system") {
      logFailure(this.#logger, { method, url, status }, error, "request failed");
    } else {
      const level = kind === "unavailable" ? "warn" : "debug";
      this.#logger[level]({ method, url, status, reason: message }, "request refused");
    }
  }

  /** Warns when a flood begins, and logs how many requests were refused in the following minute. */
  #noteTooMany(reason: string): void {
    this.#tooMany += 1;
    if (this.#tooMany === 1) {
      this.#logger.warn({ reason }, "requests are refused");
      setTimeout(() => {
        this.#logger.warn({ requests: this.#tooMany }, "requests were refused within a minute");
        this.#tooMany = 0;
      }, 60_000).unref();
    }
  }

  #trace(request: IncomingMessage, status: number | undefined, started: number): void {
    const took = performance.now() - started;
    const ms = Math.round(took);
    this.#logger.debug({ method: request.method, url: loggedUrl(request), status, ms }, "request");
    requestAnswered.report(() => {
      const route = this.#matchOf(request)?.route;
      return { method: route?.method ?? "other", route: route?.path, status, seconds: took / 1000 };
    });
  }
}

/**
 * Drops a body that its handler has not begun to read: behind unread bytes a client's leaving goes unnoticed. Handlers of
 * uploads read theirs later.
 */
function dropUnread(request: IncomingMessage, { kind, method }: Route): void {
  const isUpload = kind === "transfer" && method !== "GET";
  if (!isUpload && !request.complete && request.readableFlowing === null) {
    request.resume();
  }
}

/** Whether a request's body arrived with its header. */
function hasArrivedWhole(request: IncomingMessage): boolean {
  return request.complete || !hasBody(request);
}

/** Why a request failed: our abort's reason says more than the "cancelled" that it caused. */
function failureOf(caught: unknown, { end: { signal } }: Exchange): unknown {
  return signal.aborted && signal.reason instanceof SockerlessError ? signal.reason : caught;
}

/** Lets a request's handler keep its turn until a promise settles, however it does. */
function keeperOf(turns: DisposableStack): (until: Promise<unknown>) => void {
  return (until) => {
    const kept = turns.move();
    void until.finally(() => kept.dispose()).catch(() => {});
  };
}
