/** An HTTP/2 connection to one agent that is opened when it is needed and closed when it is not. */
import type { ClientHttp2Session, ClientHttp2Stream, OutgoingHttpHeaders } from "node:http2";

import { Code, ConnectError } from "@connectrpc/connect";

import { type DialTarget, describeAddress } from "./address.ts";
import { dial } from "./dial.ts";

/** How long a connection without streams is kept. */
const idleCloseMs = 60_000;
/** A peer behind a network may vanish without a word: a ping that is not answered in time ends the connection. */
const pingIntervalMs = 10_000;
const pingTimeoutMs = 20_000;

/**
 * Streams to one agent over at most one live session. A session that got a GOAWAY finishes its streams while new ones
 * go to its successor. An idle connection does not keep the process alive.
 *
 * It is a session manager in Connect's sense (`NodeHttp2TransportOptions.sessionManager`), so that typed calls and raw
 * streams share the session.
 */
export class AgentConnection {
  /** What Connect's base URL has to begin with; the socket is chosen by the target alone. */
  readonly authority = "http://agent";
  readonly #target: DialTarget;
  #current: Promise<LiveSession> | undefined;
  #closed: boolean = false;

  constructor(target: DialTarget) {
    this.#target = target;
  }

  /**
   * Opens a stream, dialling first where needed.
   *
   * @throws ConnectError `Unavailable` when the agent cannot be reached or the connection was closed by {@link close}
   */
  async request(
    method: string,
    path: string,
    headers: OutgoingHttpHeaders,
    options: { readonly endStream?: boolean | undefined } = {},
  ): Promise<ClientHttp2Stream> {
    for (;;) {
      const live = await this.#live();
      try {
        return live.open({ ...headers, ":method": method, ":path": path }, options);
      } catch (error) {
        // The session ended between the await and the request: dial again. Anything else is the caller's fault.
        if (live.usable) {
          throw error;
        }
      }
    }
  }

  /** Connect tells of every read; pings do not depend on it. */
  notifyResponseByteRead(): void {}

  /** Ends every stream with an error and refuses new ones. May be called again. */
  close(): void {
    this.#closed = true;
    const current = this.#current;
    this.#current = undefined;
    current?.then(
      (live) => live.destroy(),
      () => {},
    );
  }

  async #live(): Promise<LiveSession> {
    for (;;) {
      if (this.#closed) {
        throw new ConnectError(
          `the connection to the agent at ${describeAddress(this.#target.address)} was closed`,
          Code.Unavailable,
        );
      }
      const pending = this.#current ?? this.#dial();
      const live = await pending;
      if (live.usable) {
        return live;
      }
      if (this.#current === pending) {
        this.#current = undefined;
      }
    }
  }

  #dial(): Promise<LiveSession> {
    const pending = dial(this.#target).then((session) => {
      const live = new LiveSession(session, this.#target.address.kind === "tcp");
      if (this.#closed) {
        live.destroy();
      }
      return live;
    });
    this.#current = pending;
    pending.catch(() => {
      if (this.#current === pending) {
        this.#current = undefined;
      }
    });
    return pending;
  }
}

/** A session and its clocks. */
class LiveSession {
  readonly #session: ClientHttp2Session;
  readonly #pings: boolean;
  #streams = 0;
  #leaving: boolean = false;
  #idleTimer: NodeJS.Timeout | undefined;
  #pingTimer: NodeJS.Timeout | undefined;
  #pongTimer: NodeJS.Timeout | undefined;

  constructor(session: ClientHttp2Session, pings: boolean) {
    this.#session = session;
    this.#pings = pings;
    // Streams report the failure to those who wait for them; without this listener it would end the process.
    session.on("error", () => {});
    session.on("goaway", () => {
      this.#leaving = true;
    });
    session.once("close", () => this.#stopTimers());
    this.#becomeIdle();
  }

  get usable(): boolean {
    return !this.#leaving && !this.#session.closed && !this.#session.destroyed;
  }

  open(headers: OutgoingHttpHeaders, options: { readonly endStream?: boolean | undefined }): ClientHttp2Stream {
    const stream = this.#session.request(headers, options);
    if (this.#streams++ === 0) {
      this.#becomeBusy();
    }
    stream.once("close", () => {
      if (--this.#streams === 0) {
        this.#becomeIdle();
      }
    });
    return stream;
  }

  destroy(): void {
    this.#session.destroy();
  }

  #becomeBusy(): void {
    clearTimeout(this.#idleTimer);
    this.#session.ref();
    if (this.#pings) {
      this.#pingTimer = setInterval(() => this.#ping(), pingIntervalMs).unref();
    }
  }

  #becomeIdle(): void {
    this.#stopTimers();
    if (this.#session.destroyed) {
      return;
    }
    this.#session.unref();
    if (this.#leaving) {
      this.#session.close();
      return;
    }
    this.#idleTimer = setTimeout(() => this.#session.close(), idleCloseMs).unref();
  }

  #ping(): void {
    if (this.#pongTimer !== undefined || this.#session.destroyed) {
      return;
    }
    this.#pongTimer = setTimeout(() => {
      this.#session.destroy(new ConnectError("the agent stopped answering", Code.Unavailable));
    }, pingTimeoutMs).unref();
    this.#session.ping(() => {
      clearTimeout(this.#pongTimer);
      this.#pongTimer = undefined;
    });
  }

  #stopTimers(): void {
    clearTimeout(this.#idleTimer);
    clearInterval(this.#pingTimer);
    clearTimeout(this.#pongTimer);
    this.#pongTimer = undefined;
  }
}
