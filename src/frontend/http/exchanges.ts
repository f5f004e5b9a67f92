/** The requests that are being answered, so that a shutdown can wait for them and then end them, and their connections. */
import type { Socket } from "node:net";

import { unavailable } from "../../common/errors.ts";

/** How long a shutdown lets requests end by themselves. Waits, logs and events never do. */
const drainMs = 5000;
/** How long a request that was told to end may take to say so to its client. */
const farewellMs = 1000;

/** A request that is being answered. */
export interface Exchange {
  /** Aborts when the client is gone or the time to drain is over. */
  readonly end: AbortController;
  readonly connection: Socket;
}

/** All requests and connections of a server. */
export class Exchanges {
  readonly #current = new Set<Exchange>();
  readonly #sockets = new Set<Socket>();
  /** Clients' connections without a request, the one that has been so for longest first. */
  readonly #idle = new Set<Socket>();
  readonly #mostSockets: number;
  #whenIdle: (() => void) | undefined;

  /** @param mostSockets connections; of more the one is closed that has been without a request for longest */
  constructor(mostSockets: number) {
    this.#mostSockets = mostSockets;
  }

  /** Remembers a connection until it is closed. */
  track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
  }

  /** Takes requests of a connection from now on. */
  serve(socket: Socket): void {
    this.#idle.add(socket);
    socket.once("close", () => this.#idle.delete(socket));
    const [longest] = this.#idle;
    if (this.#sockets.size > this.#mostSockets && longest !== undefined) {
      this.#idle.delete(longest);
      longest.destroy();
    }
  }

  /** A request has begun. */
  begin(connection: Socket): Exchange {
    const exchange = { end: new AbortController(), connection };
    this.#current.add(exchange);
    this.#idle.delete(connection);
    return exchange;
  }

  /** Its handler is done. */
  finish(exchange: Exchange): void {
    const { connection } = exchange;
    this.#current.delete(exchange);
    if (!connection.destroyed) {
      this.#idle.add(connection);
    }
    if (this.#current.size === 0) {
      this.#whenIdle?.();
    }
  }

  /**
   * Lets requests end for a moment, then tells them to, then cuts every connection. Never rejects.
   *
   * @param outlasted called before they are told, if there are any
   */
  async drain(outlasted: () => void): Promise<void> {
    await this.#untilIdle(drainMs);
    if (this.#current.size > 0) {
      outlasted();
    }
    for (const { end } of this.#current) {
      end.abort(unavailable("the Docker API is shutting down"));
    }
    await this.#untilIdle(farewellMs);
    for (const socket of this.#sockets) {
      socket.destroy();
    }
  }

  async #untilIdle(limitMs: number): Promise<void> {
    if (this.#current.size === 0) {
      return;
    }
    const idle = Promise.withResolvers<void>();
    const timer = setTimeout(idle.resolve, limitMs);
    this.#whenIdle = idle.resolve;
    await idle.promise;
    this.#whenIdle = undefined;
    clearTimeout(timer);
  }
}
