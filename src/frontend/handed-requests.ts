/**
 * Requests whose client connection may be handed over to the process that holds the bytes. Which requests these are,
 * and how each part is handed over, is decided here, before their routes run. If no process takes the connection, the
 * request is answered here.
 */
import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";

import type { Logger } from "../common/logger.ts";
import { requestIdHeaders } from "../common/request-id.ts";
import type { Admitted } from "./admission.ts";
import type { ApiResponse } from "./http/api-response.ts";
import type { Exchange, Exchanges } from "./http/exchanges.ts";
import { loggedUrl } from "./http/request-target.ts";
import { chunksHead, headerText, lastResponse } from "./http/raw-response.ts";
import type { ReplyContext, RequestContext, TakenUpload } from "./request-context.ts";
import type { HandsOver, ReplyRoute, RouteMatch } from "./router.ts";
import type { HandOver } from "./streams/hand-over.ts";

/** The server of the requests. */
export interface Answerer {
  /** Waits for a request's turn. @throws the reason if it is refused */
  turnOf(match: RouteMatch, request: IncomingMessage, exchange: Exchange): Promise<Admitted>;
  contextOf(request: IncomingMessage, match: RouteMatch, exchange: Exchange): RequestContext;
  /** Answers a request by its handler. */
  answer(
    request: IncomingMessage,
    response: ApiResponse,
    raw: Pick<ReplyContext, "connection" | "taken">,
  ): Promise<void>;
  /** Reports a failure. */
  log(request: IncomingMessage, error: unknown, exchange: Exchange): void;
  /** Reports that a request was answered. */
  trace(request: IncomingMessage, status: number, started: number): void;
}

/** Parts of {@link HandedRequests}. */
export interface HandedRequestsOptions {
  /** Undefined: nothing is handed over. */
  readonly handOver: HandOver | undefined;
  readonly exchanges: Exchanges;
  readonly server: Answerer;
  /** Headers of every answer. */
  readonly headers: Readonly<Record<string, string>>;
  readonly logger: Logger;
}

/** A request's connection, taken from Node's server right after the header. */
export interface TakenConnection {
  readonly match: RouteMatch;
  readonly socket: Socket;
  /** Bytes that were read after the header. */
  readonly rest: Buffer;
  /** The server to which it can be returned. */
  readonly listener: Server;
}

/** The declaration of one kind of part. */
type Handing<Part extends HandsOver["part"]> = Extract<HandsOver, { readonly part: Part }>;

/** Hands over the connections of a server's requests. */
export class HandedRequests {
  readonly #options: HandedRequestsOptions;
  /** Connections that no agent took over: this process reads their bodies. */
  readonly #ordinary = new WeakSet<Socket>();

  constructor(options: HandedRequestsOptions) {
    this.#options = options;
  }

  /** Whether a request's connection may be handed over; it must then be taken from Node's server. */
  mayHand(request: IncomingMessage, { route }: RouteMatch): boolean {
    const part = handedPartOf(route)?.part;
    return (
      part !== undefined &&
      this.#options.handOver?.mayHandOver(request, part) === true &&
      !(part === "upload" && this.#ordinary.has(request.socket))
    );
  }

  /** Answers a request as the last one of its connection: by the process that takes it over, otherwise here. */
  async answer(request: IncomingMessage, connection: TakenConnection): Promise<void> {
    const { socket, match } = connection;
    const handsOver = handedPartOf(match.route);
    const noError = (): void => {};
    socket.on("error", noError); // Node has removed its own listener.
    using turns = new DisposableStack();
    let taken: TakenUpload | undefined;
    if (handsOver?.part === "upload") {
      socket.unshift(connection.rest);
      taken = await this.#upload(request, connection, handsOver, turns);
      if (taken === undefined) {
        turns.dispose();
        socket.off("error", noError);
        this.#giveBack(request, connection);
        return;
      }
    } else if (handsOver?.part === "answer" && (await this.#isHeld(request, connection, handsOver))) {
      socket.destroy();
      return;
    } else {
      socket.resume();
    }
    const raw = { connection: socket, ...(taken !== undefined && { taken }) };
    await this.#options.server.answer(request, lastResponse(request, socket), raw);
  }

  /** @param turns receives the turn, which lasts until the request is answered */
  async #upload(
    request: IncomingMessage,
    { match, socket }: TakenConnection,
    { take }: Handing<"upload">,
    turns: DisposableStack,
  ): Promise<TakenUpload | undefined> {
    const { exchanges, server, logger } = this.#options;
    const headers = { ...this.#options.headers, ...requestIdHeaders() };
    const exchange = exchanges.begin(socket);
    try {
      turns.use(await server.turnOf(match, request, exchange));
      return await take({ ...server.contextOf(request, match, exchange), connection: socket, headers });
    } catch (error) {
      logger.debug({ err: error }, "no agent reads the body"); // The handler gets the same error and reports it.
      return undefined;
    } finally {
      exchanges.finish(exchange);
    }
  }

  /** Returns a connection to Node's server, which reads the request's body. */
  #giveBack(request: IncomingMessage, { socket, listener }: TakenConnection): void {
    if (socket.destroyed) {
      this.#options.logger.debug(
        { method: request.method, url: loggedUrl(request) },
        "nobody reads the body",
      );
      return;
    }
    this.#ordinary.add(socket);
    socket.unshift(Buffer.from(headerText(request), "latin1"));
    listener.emit("connection", socket);
    socket.resume();
  }

  /** @returns false if the request must be answered here */
  async #isHeld(
    request: IncomingMessage,
    { match, socket }: TakenConnection,
    { call: callOf }: Handing<"answer">,
  ): Promise<boolean> {
    const { handOver, exchanges, server } = this.#options;
    const started = performance.now();
    const headers = requestIdHeaders();
    const exchange = exchanges.begin(socket);
    try {
      using turn = await server.turnOf(match, request, exchange).catch(() => undefined);
      if (turn === undefined) {
        return false; // The handler's turn is refused for the same reason, which is then reported.
      }
      const context = server.contextOf(request, match, exchange);
      const call = await callOf(context).catch(() => undefined); // The handler gets the same error and reports it.
      if (call === undefined || handOver === undefined) {
        return false;
      }
      const headOf = (type: string): string =>
        chunksHead({ ...this.#options.headers, ...headers, "Content-Type": type });
      if (!(await handOver.hold(socket, { call, headers, headOf }))) {
        return false;
      }
      server.trace(request, 200, started);
    } catch (error) {
      server.log(request, error, exchange);
    } finally {
      exchanges.finish(exchange);
    }
    return true;
  }
}

function handedPartOf(route: RouteMatch["route"]): ReplyRoute["handsOver"] {
  return route.hijack === true ? undefined : route.handsOver;
}
