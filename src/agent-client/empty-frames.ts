/** Bound on frames that carry nothing of a call: each costs its receiver memory, or a callback, for nothing. */
import { constants, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";

import { Code, ConnectError } from "@connectrpc/connect";

/**
 * Frames that a peer may send at once. An honest one sends a handful in a session's life, and pings where it hears
 * nothing, which are fewer than come back to it with time.
 */
const mostAtOnce = 20;
const refillMs = 1_000;

/** Events of a session by frames that servers of gRPC send now and then. */
const rareEvents = ["goaway", "ping", "remoteSettings"] as const;
/** Events of a session by frames that they never send. */
const strangeEvents = ["altsvc", "origin"] as const;

/**
 * Ends the session of a peer that sends too many such frames, and at once where no server of gRPC sends any, informational
 * answers among them. Frames of which Node tells nothing cost no memory: nghttp2 bounds most of them, and the rest, window
 * updates and padding, is no sign of life of a stream.
 */
export class EmptyFrames {
  readonly #session: ClientHttp2Session;
  #left = mostAtOnce;
  #refilledAt = performance.now();

  constructor(session: ClientHttp2Session) {
    this.#session = session;
    for (const event of rareEvents) {
      session.on(event, () => this.#count());
    }
    for (const event of strangeEvents) {
      session.on(event, () => this.#end());
    }
  }

  /** Watches a stream of the session for those of its own. */
  watch(stream: ClientHttp2Stream): void {
    stream.on("headers", () => this.#end());
  }

  #count(): void {
    const now = performance.now();
    this.#left = Math.min(mostAtOnce, this.#left + (now - this.#refilledAt) / refillMs) - 1;
    this.#refilledAt = now;
    if (this.#left < 0) {
      this.#end();
    }
  }

  #end(): void {
    if (!this.#session.destroyed) {
      const error = new ConnectError("the peer sends frames that carry nothing", Code.ResourceExhausted);
      this.#session.destroy(error, constants.NGHTTP2_ENHANCE_YOUR_CALM);
    }
  }
}
