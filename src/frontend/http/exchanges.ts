/** Requests in progress and their connections, so that a shutdown can wait for them and then end them. */
import type { Socket } from "node:net";

import { unavailable } from "../../common/errors.ts";

/** How long a shutdown waits for requests to end by themselves. Waits, followed logs and events never do. */
const drainMs = 5000;
/** Milliseconds for an aborted request to report to its client. */
const farewellMs = 1000;

/** A request in progress. */
export interface Exchange {
  /** Aborts when the client is gone or the time to drain is over. */
  readonly end: AbortController;
  readonly connection: Socket;
}

/** All requests and connections of a server. */
export class Exchanges {
  readonly #current = new Set<Exchange>();
  readonly #sockets = new Set<Socket>();
  /** Idle client connections, the longest idle first. */
  readonly #idle = new Set<Socket>();
  readonly #mostSockets: number;
  #whenIdle: (() => void) | undefined;

  /** @param mostSockets maximum number of connections; beyond it the longest idle one is closed */
  constructor(mostSockets: number) {
    this.#mostSockets = mostSockets;
  }

  /** Tracks a connection until it is closed. */
  track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
  }

  /** Accepts requests of a connection from now on. */
  serve(socket: Socket): void {
    this.#idle.add(socket);
    socket.once("close", () => this.#idle.delete(socket));
    const [longest] = this.#idle;
    if (this.#sockets.size > this.#mostSockets && longest !== undefined) {
      this.#idle.delete(longest);
      longest.destroy();
    }
  }

  /** Registers a new request. */
  begin(connection: Socket): Exchange {
    const exchange = { end: new AbortController(), connection };
    this.#current.add(exchange);
    this.#idle.delete(connection);
    return exchange;
  }

  /** Removes a request whose handler is done. */
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
   * Waits a moment for requests to end, then aborts them, then closes every connection. Never rejects.
   *
   * @param outlasted called before remaining requests are aborted, if there are any
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
