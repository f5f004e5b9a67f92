/** Arguments of an endpoint's handler. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";

import type { Clock } from "../common/clock.ts";
import type { Supervision } from "../common/held-sockets.ts";
import type { Logger } from "../common/logger.ts";
import type { ApiVersion } from "./api-version.ts";
import type { BackendClients } from "./backend/clients.ts";
import type { BackendPresence } from "./backend/presence.ts";
import type { Publisher } from "./port-forwarding/publisher.ts";
import type { AgentTargets } from "./streams/agent-targets.ts";
import type { AskedStarts } from "./streams/asked-starts.ts";
import type { HandOver } from "./streams/hand-over.ts";
import type { ExecEnds } from "./streams/exec-ends.ts";
import type { StreamPool } from "./streams/stream-pool.ts";

/** Services that live as long as the frontend and serve every request. */
export interface FrontendServices {
  readonly backend: BackendClients;
  readonly clock: Clock;
  readonly presence: Pick<BackendPresence, "absence">;
  /** Streams to agents, in worker threads. */
  readonly streams: StreamPool;
  /** Agents that the frontend can dial, and the credentials for it. */
  readonly agents: AgentTargets;
  readonly execEnds: ExecEnds;
  readonly askedStarts: AskedStarts;
  /** Gives clients' connections to agents; undefined: all streams go through the workers. */
  readonly handOver: HandOver | undefined;
  /** The log tells everything: what `/info` calls debugging. */
  readonly isDebugging: boolean;
  /** Listens for published ports; undefined: this frontend does not. */
  readonly publisher: Publisher | undefined;
  /** Undefined: nothing can be built here. */
  readonly startBuilder: Supervision["startBuilder"] | undefined;
}

/** One request, read up to its header. */
export interface RequestContext {
  readonly request: IncomingMessage;
  /** The named parts of the route's path, decoded. */
  readonly parameters: Readonly<Record<string, string>>;
  /** The query string; the readers of single values stand in `query.ts`. */
  readonly query: URLSearchParams;
  readonly version: ApiVersion;
  /**
   * Aborts when the client is gone or the frontend's time to drain is over. Not by a client's half-close.
   * Given to calls that only read or that stream; one that changes something goes on without its client, as
   * in dockerd: a client that leaves a stop half-way still wants the container stopped. The backend is told
   * of a client that leaves a stop which may wait for ever, or a start, which may wait for room on the
   * platform.
   */
  readonly signal: AbortSignal;
  readonly services: FrontendServices;
  readonly logger: Logger;
}

/** A request that is answered by an ordinary HTTP response. */
export interface ReplyContext extends RequestContext {
  readonly response: ServerResponse;
  /** Has the request count as under way beyond its handler's end, until a promise settles. */
  readonly keepTurn: (until: Promise<unknown>) => void;
  /** The client's connection, where this is its last request and Node's server reads no more of it. */
  readonly connection?: Socket;
  /** The request's body, where an agent reads it from that connection. */
  readonly taken?: TakenUpload;
}

/** A body that an agent has. */
export interface TakenUpload {
  /** The client's. */
  readonly connection: Socket;
  /**
   * Resolves with the size in bytes of the archive once it is unpacked. Rejects in the agent's words, or with a
   * `OutOfSight`. Once the client is answered its connection is to be closed: the agent answers it otherwise.
   */
  readonly ended: Promise<number>;
  /** Gives the call up: the agent answers. */
  readonly lose: (reason: unknown) => void;
  /** Answers the request, where somebody else knows what became of the upload. */
  readonly answer?: (context: ReplyContext) => Promise<void>;
}

/** A request whose body nobody has read yet, and may be read by an agent. */
export interface TakeContext extends RequestContext {
  readonly connection: Socket;
  /** Headers of every answer. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * A request to a route that declares `hijack`, with an `Upgrade` header or without. Nothing has been parsed after the
 * request's header: its body (as many bytes as Content-Length says) and what follows are in `head` and then on `socket`,
 * which is paused. The handler writes the whole answer.
 */
export interface HijackContext extends RequestContext {
  readonly socket: Socket;
  readonly head: Buffer;
  /** Headers of every answer. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * Called by the handler right before its first byte of the answer. Until then an error that the handler throws is
   * written as an HTTP error and the connection is closed; from then on errors travel in the stream, the socket belongs to
   * the handler, and an error that still gets out destroys it and is logged.
   */
  takeOver(): void;
}
