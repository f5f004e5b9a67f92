/** The requests that are being answered, so that a shutdown can wait for them and then end them. */
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
}

/** All requests and connections of a server. */
export class Exchanges {
  readonly #current = new Set<Exchange>();
  readonly #sockets = new Set<Socket>();
  #idle: (() => void) | undefined;

  /** Remembers a connection until it is closed. */
  track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
  }

  /** A request has begun. */
  begin(): Exchange {
    const exchange = { end: new AbortController() };
    this.#current.add(exchange);
    return exchange;
  }

  /** Its handler is done. */
  finish(exchange: Exchange): void {
    this.#current.delete(exchange);
    if (this.#current.size === 0) {
      this.#idle?.();
    }
  }

  /** Lets requests end for a moment, then tells them to, then cuts every connection. Never rejects. */
  async drain(): Promise<void> {
    await this.#untilIdle(drainMs);
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
    this.#idle = idle.resolve;
    await idle.promise;
    this.#idle = undefined;
    clearTimeout(timer);
  }
}
