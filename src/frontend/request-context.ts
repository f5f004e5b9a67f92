/** What the handler of an endpoint is given. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";

import type { Logger } from "../common/logger.ts";
import type { ApiVersion } from "./api-version.ts";
import type { BackendClients } from "./backend-clients.ts";
import type { AgentTargets } from "./streams/agent-targets.ts";
import type { StreamPool } from "./streams/stream-pool.ts";

/** What lives as long as the frontend and serves every request. */
export interface FrontendServices {
  readonly backend: BackendClients;
  /** Streams to agents, in worker threads. */
  readonly streams: StreamPool;
  /** What the frontend can dial, and with which credentials. */
  readonly agents: AgentTargets;
}

/** One request, read up to its header. */
export interface RequestContext {
  readonly request: IncomingMessage;
  /** The named parts of the route's path, decoded. */
  readonly parameters: Readonly<Record<string, string>>;
  /** The query string; the readers of single values stand in `query.ts`. */
  readonly query: URLSearchParams;
  readonly version: ApiVersion;
  /** Aborts when the client is gone or the frontend's time to drain is over. Not by a client's half-close. */
  readonly signal: AbortSignal;
  readonly services: FrontendServices;
  readonly logger: Logger;
}

/** A request that is answered by an ordinary HTTP response. */
export interface ReplyContext extends RequestContext {
  readonly response: ServerResponse;
}

/**
 * The client's connection of a route that hijacks.
 *
 * - `upgrade`: the client sent an `Upgrade` header. Nothing has been parsed after the header: the request's body (as many
 *   bytes as Content-Length says) and what follows it are in `head` and then on `socket`, which is paused. The handler
 *   writes the whole answer.
 * - `response`: the client sent none. The body is read from `context.request`; the handler may answer an ordinary
 *   response, or take `response.socket` over.
 */
export type ClientConnection =
  | { readonly kind: "upgrade"; readonly socket: Socket; readonly head: Buffer }
  | { readonly kind: "response"; readonly response: ServerResponse };

/** A request to a route that declares `hijack`. */
export interface HijackContext extends RequestContext {
  readonly connection: ClientConnection;
  /**
   * Called by the handler right before its first byte of the answer. Until then an error that the handler throws is
   * written as an HTTP error and the connection is closed; from then on errors travel in the stream, the socket belongs to
   * the handler, and an error that still gets out destroys it and is logged.
   */
  takeOver(): void;
}
