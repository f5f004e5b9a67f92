/** A limit on frames outside of calls: each costs its receiver memory, or a callback, for nothing. */
import { constants, type ClientHttp2Session, type ClientHttp2Stream } from "node:http2";

import { Code, ConnectError } from "@connectrpc/connect";

import { Allowance } from "../common/allowance.ts";

/**
 * The largest burst of such frames. An honest peer sends a handful per session, plus pings during silence, which come
 * more slowly than the allowance refills.
 */
const mostAtOnce = 20;
const refillMs = 1_000;

/** Events for frames that gRPC servers send occasionally. */
const rareEvents = ["goaway", "ping", "remoteSettings"] as const;
/** Events for frames that gRPC servers never send. */
const strangeEvents = ["altsvc", "origin"] as const;

/**
 * Ends the session of a peer that sends too many such frames, and at once for frames that no gRPC server sends,
 * including informational responses. Frames without a Node event cost no memory: nghttp2 limits most of them; the
 * others, window updates and padding, do not count as a sign of life of a stream.
 */
export class EmptyFrames {
  readonly #session: ClientHttp2Session;
  readonly #allowance = new Allowance(mostAtOnce, refillMs);

  constructor(session: ClientHttp2Session) {
    this.#session = session;
    for (const event of rareEvents) {
      session.on(event, () => this.#count());
    }
    for (const event of strangeEvents) {
      session.on(event, () => this.#end());
    }
  }

  /** Watches a stream for informational responses. */
  watch(stream: ClientHttp2Stream): void {
    stream.on("headers", () => this.#end());
  }

  #count(): void {
    if (!this.#allowance.take()) {
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
