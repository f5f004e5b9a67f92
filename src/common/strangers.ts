/** A port that is open to everybody: who has not shown yet who he is, is bounded in number and time, and so is what is told of him. */
import type { Socket } from "node:net";
import type { Server, TLSSocket } from "node:tls";

import { messageOf } from "./errors.ts";
import type { Logger } from "./logger.ts";

/** The most connections of strangers, at once. */
export const maxStrangers = 256;
/** The time that a stranger has to show who he is, a handshake of TLS included. */
const provenWithinMs = 15_000;
/** The most refusals that are told one by one within a minute: a log is not endless. */
const toldPerMinute = 10;

/** News of strangers, for a log. Plain data: it crosses threads. */
export type StrangerNews =
  /** Somebody was turned away. `remote` is empty where it is a number of them. */
  | { readonly kind: "turned-away"; readonly remote: string; readonly reason: string }
  /** Callers within a second who were gone before they had shown who they are, as a load balancer's probes are. */
  | { readonly kind: "hung-up"; readonly callers: number };

/** Logs what is told of strangers. */
export function logStrangers(logger: Logger, news: StrangerNews): void {
  if (news.kind === "turned-away") {
    logger.warn({ remote: news.remote }, `a caller was turned away: ${news.reason}`);
  } else {
    logger.debug({ callers: news.callers }, "callers were gone before they had shown who they are");
  }
}

/** Connections that have not shown who they are, oldest first. */
export class Strangers {
  readonly #connections = new Map<string, { readonly socket: Socket; readonly limit: NodeJS.Timeout }>();
  readonly #tell: (news: StrangerNews) => void;
  #turnedAway = 0;
  #hungUp = 0;

  /** @param tell told of refusals */
  constructor(tell: (news: StrangerNews) => void) {
    this.#tell = tell;
    setInterval(() => {
      if (this.#turnedAway > toldPerMinute) {
        this.#tellOf("", `${this.#turnedAway - toldPerMinute} more within a minute`);
      }
      this.#turnedAway = 0;
    }, 60_000).unref();
  }

  /**
   * Bounds the connections of a TCP listener, which does not leave sockets half open by itself: a stranger that says that
   * it sends no more is gone. To be called after all others that want its connections before TLS does.
   *
   * @param shown what a connection has to show: a certificate, which the listener demands, or something that its owner
   *   looks at, and tells by {@link proven}
   */
  guard(listener: Server, shown: "a certificate" | "a key"): void {
    listener.on("connection", (socket) => this.#add(socket, shown));
    listener.on("tlsClientError", (error, socket) => {
      this.#fail(error, socket);
      socket.destroy();
    });
    if (shown === "a certificate") {
      listener.on("secureConnection", (socket) => this.proven(remoteOf(socket)));
    }
  }

  /** A connection has shown who it is, or is gone. @param remote as {@link remoteOf} has it */
  proven(remote: string): void {
    clearTimeout(this.#connections.get(remote)?.limit);
    this.#connections.delete(remote);
  }

  /** Tells of somebody who was refused. */
  turnAway(remote: string, reason: string): void {
    this.#turnedAway++;
    if (this.#turnedAway <= toldPerMinute) {
      this.#tellOf(remote, reason);
    }
  }

  #tellOf(remote: string, reason: string): void {
    this.#tell({ kind: "turned-away", remote, reason });
  }

  #add(socket: Socket, shown: string): void {
    const remote = remoteOf(socket);
    const limit = setTimeout(() => socket.destroy(), provenWithinMs);
    this.#connections.set(remote, { socket, limit });
    socket.once("close", () => this.proven(remote));
    const [oldest] = this.#connections;
    if (this.#connections.size > maxStrangers && oldest !== undefined) {
      // A caller that belongs here takes a moment: in a flood it is the flood that is oldest.
      this.turnAway(oldest[0], `${maxStrangers} connections have not shown ${shown} yet`);
      oldest[1].socket.destroy();
      this.proven(oldest[0]);
    }
  }

  /** A handshake has failed. Node tells of a caller whose certificate is refused as one who has hung up. */
  #fail(error: NodeJS.ErrnoException, socket: TLSSocket): void {
    const { authorizationError } = socket;
    if (authorizationError) {
      this.turnAway(remoteOf(socket), `its certificate is refused: ${String(authorizationError)}`);
    } else if (error.code === "ECONNRESET") {
      this.#noteHangUp();
    } else {
      this.turnAway(remoteOf(socket), messageOf(error));
    }
  }

  /** Tells of callers who are gone: once a second, however many there are in a flood. */
  #noteHangUp(): void {
    this.#hungUp += 1;
    if (this.#hungUp === 1) {
      setTimeout(() => {
        this.#tell({ kind: "hung-up", callers: this.#hungUp });
        this.#hungUp = 0;
      }, 1_000).unref();
    }
  }
}

/** Address and port of a connection's other end, which TLS over it has too. */
export function remoteOf({ remoteAddress = "", remotePort = 0 }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
