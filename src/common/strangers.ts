/**
 * Limits the number, lifetime and log lines of unauthenticated connections ("strangers") on a port that is open to
 * everybody.
 */
import type { Server, Socket } from "node:net";

import type { Logger } from "./logger.ts";

/** The most unauthenticated connections at a time. */
export const maxStrangers = 256;
/** Time limit to authenticate. */
const authenticateWithinMs = 15_000;
/** The most refusals logged one by one per minute, which bounds the log. */
const reportedPerMinute = 10;

/** Log events about strangers. Plain data, sent across threads. */
export type StrangerNews =
  /** Refused callers; `remote` is empty if the event stands for several. */
  | { readonly kind: "turned-away"; readonly remote: string; readonly reason: string }
  /** Callers of one second that disconnected before they authenticated, as a load balancer's probes do. */
  | { readonly kind: "hung-up"; readonly callers: number };

/** Logs an event about strangers. */
export function logStrangers(logger: Logger, news: StrangerNews): void {
  if (news.kind === "turned-away") {
    logger.warn({ remote: news.remote }, `a caller was turned away: ${news.reason}`);
  } else {
    logger.debug({ callers: news.callers }, "callers disconnected before they authenticated");
  }
}

/** Connections that have not authenticated, oldest first. */
export class Strangers {
  readonly #connections = new Map<string, { readonly socket: Socket; readonly limit: NodeJS.Timeout }>();
  readonly #report: (news: StrangerNews) => void;
  #turnedAway = 0;
  #hungUp = 0;

  /** @param report called with each event */
  constructor(report: (news: StrangerNews) => void) {
    this.#report = report;
    setInterval(() => {
      if (this.#turnedAway > reportedPerMinute) {
        this.#reportRefusal("", `${this.#turnedAway - reportedPerMinute} more within a minute`);
      }
      this.#turnedAway = 0;
    }, 60_000).unref();
  }

  /**
   * Limits the connections of a server without `allowHalfOpen` that have to show a key, which the server's owner checks and
   * confirms with {@link proven}. A stranger that ends its sending side is disconnected.
   */
  guard(server: Server): void {
    server.on("connection", (socket) => this.#add(socket));
  }

  /** The connection has authenticated, or closed. @param remote from {@link remoteOf} */
  proven(remote: string): void {
    clearTimeout(this.#connections.get(remote)?.limit);
    this.#connections.delete(remote);
  }

  /** Reports a refused caller. */
  turnAway(remote: string, reason: string): void {
    this.#turnedAway++;
    if (this.#turnedAway <= reportedPerMinute) {
      this.#reportRefusal(remote, reason);
    }
  }

  #reportRefusal(remote: string, reason: string): void {
    this.#report({ kind: "turned-away", remote, reason });
  }

  #add(socket: Socket): void {
    const remote = remoteOf(socket);
    const limit = setTimeout(() => socket.destroy(), authenticateWithinMs);
    this.#connections.set(remote, { socket, limit });
    socket.once("close", () => this.proven(remote));
    const [oldest] = this.#connections;
    if (this.#connections.size > maxStrangers && oldest !== undefined) {
      // A legitimate caller takes only a moment: in a flood, the oldest belong to the flood.
      this.turnAway(oldest[0], `${maxStrangers} connections have not shown a key yet`);
      oldest[1].socket.destroy();
      this.proven(oldest[0]);
    }
  }

  /** Counts callers that hung up; reports them once a second, even in a flood. */
  hungUp(): void {
    this.#hungUp += 1;
    if (this.#hungUp === 1) {
      setTimeout(() => {
        this.#report({ kind: "hung-up", callers: this.#hungUp });
        this.#hungUp = 0;
      }, 1_000).unref();
    }
  }
}

/** Remote address and port of a connection. */
export function remoteOf({ remoteAddress = "", remotePort = 0 }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
