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
import type { OpenAttachments } from "./streams/open-attachments.ts";
import type { PendingStarts } from "./streams/pending-starts.ts";
import type { HandOver } from "./streams/hand-over.ts";
import type { ExecEnds } from "./streams/exec-ends.ts";
import type { StreamPool } from "./streams/stream-pool.ts";

/** Services that live as long as the frontend and are shared by all requests. */
export interface FrontendServices {
  readonly backend: BackendClients;
  readonly clock: Clock;
  readonly presence: Pick<BackendPresence, "absence">;
  /** Streams to agents, in worker threads. */
  readonly streams: StreamPool;
  /** Agents that the frontend can dial, and the credentials for it. */
  readonly agents: AgentTargets;
  readonly execEnds: ExecEnds;
  readonly pendingStarts: PendingStarts;
  readonly openAttachments: OpenAttachments;
  /** Hands clients' connections over to agents; undefined: all streams go through the workers. */
  readonly handOver: HandOver | undefined;
  /** True if the log level is debug: `Debug` in `/info`. */
  readonly isDebugging: boolean;
  /** Listens on published ports; undefined if this frontend does not. */
  readonly publisher: Pick<Publisher, "start"> | undefined;
  /** Undefined if this frontend has no builder. */
  readonly startBuilder: Supervision["startBuilder"] | undefined;
}

/** One request, read up to its header. */
export interface RequestContext {
  readonly request: IncomingMessage;
  /** The named parts of the route's path, decoded. */
  readonly parameters: Readonly<Record<string, string>>;
  /** The query string; `query.ts` reads single values. */
  readonly query: URLSearchParams;
  readonly version: ApiVersion;
  /**
   * Aborts when the client is gone or the frontend's drain time is over, but not on a client's half-close. Passed to
   * calls that only read or stream. A call that changes something continues without its client, as in dockerd: a client
   * that leaves during a stop still wants the container stopped. The backend is notified of a client that leaves during
   * a stop without time limit, or during a start, which may wait for capacity on the platform.
   */
  readonly signal: AbortSignal;
  readonly services: FrontendServices;
  readonly logger: Logger;
}

/** A request that is answered by an ordinary HTTP response. */
export interface ReplyContext extends RequestContext {
  readonly response: ServerResponse;
  /** Keeps the request in progress after its handler has returned, until a promise settles. */
  readonly keepTurn: (until: Promise<unknown>) => void;
  /** Disposed of once the handler has returned, which may be long after its client has left. */
  readonly held: DisposableStack;
  /** The client's connection, if this is its last request and Node's server no longer reads it. */
  readonly connection?: Socket;
  /** The request's body, if an agent reads it from that connection. */
  readonly taken?: TakenUpload;
}

/** A body that an agent reads. */
export interface TakenUpload {
  /** The client's connection. */
  readonly connection: Socket;
  /**
   * Resolves with the archive's size in bytes once it is unpacked. Rejects with the agent's error, or with
   * `OutOfSight`. The connection must be closed once the client is answered here, or else the agent answers it.
   */
  readonly ended: Promise<number>;
  /** Abandons the call: the agent answers. */
  readonly lose: (reason: unknown) => void;
  /** Answers the request, if another process knows the upload's outcome. */
  readonly answer?: (context: ReplyContext) => Promise<void>;
}

/** A request whose unread body may be read by an agent. */
export interface TakeContext extends RequestContext {
  readonly connection: Socket;
  /** Headers of every answer. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * A request to a route that declares `hijack`, with or without an `Upgrade` header. Nothing has been parsed after the
 * request's header: all that follows its body is on `socket`, which nobody reads. The handler writes the whole answer.
 */
export interface HijackContext extends RequestContext {
  readonly socket: Socket;
  readonly body: Buffer;
  /** Headers of every answer. */
  readonly headers: Readonly<Record<string, string>>;
  /** Counts the request as under way after its handler has returned, until a promise settles. */
  readonly keepTurn: (until: Promise<unknown>) => void;
  /**
   * Called by the handler right before its first byte of the answer. Until then an error that the handler throws is
   * written as an HTTP error and the connection is closed; from then on errors travel in the stream, the socket belongs to
   * the handler, and an error that still gets out destroys it and is logged.
   */
  takeOver(): void;
}
