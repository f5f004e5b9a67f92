/** An HTTP/2 connection to an agent, opened on demand and closed when idle. */
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type OutgoingHttpHeaders,
} from "node:http2";

import { Code, ConnectError } from "@connectrpc/connect";

import type { ByteBudget } from "../common/byte-budget.ts";
import { packWaiting } from "../common/pack-waiting.ts";
import { readOnDemand } from "../common/read-on-demand.ts";
import { agentPeer, type AgentTarget, type AgentWay, describeAddress } from "./address.ts";
import { dial, type Dialled } from "./dial.ts";
import type { EmptyFrames } from "./empty-frames.ts";
import type { Link } from "./link.ts";
import { leastWindow, ReceiveWindow } from "./receive-window.ts";
import { SmallFrames } from "./small-frames.ts";

/**
 * Streams of a session share its window, so that many stalled ones slow down the rest; beyond this another session is
 * opened.
 */
const maxStreamsPerSession = 100;
/** Time that a connection without streams is kept. */
const idleCloseMs = 60_000;
/**
 * Milliseconds between pings, and of silence after one: a peer on a network may vanish silently. A missing answer alone
 * tells nothing: a ping waits behind what was sent before, for minutes on a slow network.
 */
const pingIntervalMs = 10_000;
const pingTimeoutMs = 20_000;
/** The limit if another connection then replaces this one, before the silence ends its streams. */
const linkPingTimeoutMs = 8_000;
/** The limit for the answer itself, whatever comes: a peer that does not read keeps all that is sent to it waiting. */
const pongTimeoutMs = 5 * 60_000;
/**
 * Bytes sent before a ping, above which it may wait so long that silence tells nothing either: an agent that has vanished
 * is then noticed after five minutes, or by heartbeats where a session's streams have them.
 */
const patientAboveBytes = 64 * 1024;

export interface StreamOptions {
  /** True if nothing follows the header. */
  readonly endStream?: boolean | undefined;
  /**
   * True if it may send more than its receiver reads. A Go server reopens a connection's window only as its handlers
   * read, so a few processes that do not read their input would stop every other stream: two such streams never share a
   * session.
   */
  readonly carriesInput?: boolean;
}

/** Settings of a connection. */
export interface ConnectionOptions {
  /** Called when the last session has closed, or none could be opened, and at once when the connection is closed. */
  readonly onIdle?: (() => void) | undefined;
  /** Shared budget for the streams' receive windows; undefined: each has a window of its own. */
  readonly windows?: ByteBudget | undefined;
  /** Bytes of each stream's window without such a budget; undefined: a large one. */
  readonly window?: number;
  /**
   * Whether streams to an agent that calls survive a cut. Otherwise they fail at once, which shows that the agent is
   * gone.
   */
  readonly outlivesCuts?: boolean;
}

/**
 * Streams to one agent: over one session while it has room, then over more. After a GOAWAY a session finishes its
 * streams, and new ones go to its successor. Idle sessions do not keep the process alive.
 *
 * Implements Connect's session manager (`NodeHttp2TransportOptions.sessionManager`), so that typed calls and raw
 * streams share sessions.
 */
export class AgentConnection {
  /** Base URL for Connect, which needs a host; only the target decides the address. */
  readonly authority = "http://agent";
  readonly #target: AgentTarget;
  readonly #options: ConnectionOptions;
  readonly #sessions = new Set<LiveSession>();
  #dialling: Promise<LiveSession> | undefined;
  #closed: boolean = false;
  readonly #sessionOf = new WeakMap<ClientHttp2Stream, LiveSession>();

  constructor(target: AgentTarget, options: ConnectionOptions = {}) {
    this.#target = target;
    this.#options = options;
  }

  /** The address of the agent. */
  get way(): AgentWay {
    return this.#target.address;
  }

  /** The server's name in error messages. */
  get peer(): string {
    return this.#target.peer ?? agentPeer;
  }

  /**
   * Opens a stream, and dials first if necessary. Closed with an error, it drops what it has not sent, which its peer may
   * never read.
   *
   * @throws ConnectError `Unavailable` if the agent cannot be reached, or after {@link close}
   */
  async request(
    method: string,
    path: string,
    headers: OutgoingHttpHeaders,
    options: StreamOptions = {},
  ): Promise<ClientHttp2Stream> {
    let dialled: LiveSession | undefined;
    for (;;) {
      if (this.#closed) {
        throw new ConnectError(
          `the connection to ${this.peer} at ${describeAddress(this.#target.address)} was closed`,
          Code.Unavailable,
        );
      }
      // Thousands may wait: each looks at the new session only, and the one that dials next at all of them.
      const mayDial = dialled === undefined || this.#dialling === undefined;
      const session = [dialled, ...(mayDial ? this.#sessions : [])].find((live) => live?.hasRoomFor(options));
      if (session === undefined) {
        this.#dialling ??= this.#dial();
        dialled = await this.#dialling;
        continue;
      }
      try {
        const stream = session.open({ ...headers, ":method": method, ":path": path }, options);
        this.#sessionOf.set(stream, session);
        return stream;
      } catch (error) {
        // The session ended before it could report so: try another. Any other error is the caller's fault.
        if (session.hasRoomFor(options)) {
          throw error;
        }
      }
    }
  }

  /** Called by Connect for every read; pings do not depend on it. */
  notifyResponseByteRead(): void {}

  /** Counts bytes read from a stream of {@link request}: with a shared budget, the window of a fast reader grows. */
  notifyRead(stream: ClientHttp2Stream, bytes: number): void {
    this.#sessionOf.get(stream)?.notifyRead(bytes);
  }

  /** True while a stream of {@link request} waits for its connection to resume: silence then means nothing. */
  isCut(stream: ClientHttp2Stream): boolean {
    return this.#sessionOf.get(stream)?.isCut === true;
  }

  /**
   * The reason why the connection of a stream of {@link request} did not resume after a cut; undefined if it did, or
   * never does.
   */
  failureOf(stream: ClientHttp2Stream): ConnectError | undefined {
    const failure = this.#sessionOf.get(stream)?.failure;
    return failure === undefined ? undefined : new ConnectError(failure.message, Code.Unavailable);
  }

  /** Ends every stream with an error and refuses new ones; closing again is harmless. */
  close(): void {
    this.#closed = true;
    for (const session of this.#sessions) {
      session.destroy();
    }
    this.#options.onIdle?.();
  }

  async #dial(): Promise<LiveSession> {
    try {
      const { credentials } = this.#target;
      const shown = typeof credentials === "function" ? await credentials() : credentials;
      const { windows, outlivesCuts } = this.#options;
      const initial = windows === undefined ? this.#options.window : leastWindow;
      const dialled = await dial({ ...this.#target, credentials: shown }, { window: initial, outlivesCuts });
      const { session } = dialled;
      const window = windows === undefined ? undefined : new ReceiveWindow(session, windows);
      const live = new LiveSession(dialled, this.#target.address.kind === "unix", window);
      this.#sessions.add(live);
      session.once("close", () => {
        this.#sessions.delete(live);
        this.#noteIdle();
      });
      if (this.#closed) {
        live.destroy();
      } else if (!live.hasRoomFor({})) {
        live.destroy();
        throw new ConnectError(
          `cannot reach ${this.peer} at ${describeAddress(this.#target.address)}: it takes no calls`,
          Code.Unavailable,
        );
      }
      return live;
    } finally {
      this.#dialling = undefined;
      this.#noteIdle();
    }
  }

  #noteIdle(): void {
    if (this.#sessions.size === 0 && this.#dialling === undefined) {
      this.#options.onIdle?.();
    }
  }
}

/** A session and its timers. */
class LiveSession {
  readonly #window: ReceiveWindow | undefined;
  readonly #session: ClientHttp2Session;
  readonly #link: Link | undefined;
  readonly #emptyFrames: EmptyFrames;
  /** Undefined: the peer is of this machine. */
  readonly #smallFrames: SmallFrames | undefined;
  #streams = 0;
  #carriesInput: boolean = false;
  #leaving: boolean = false;
  /** Whether a cancelled stream had input that the peer may never read: nothing further is to wait behind it. */
  #holdsUnsent: boolean = false;
  #idleTimer: NodeJS.Timeout | undefined;
  #pingTimer: NodeJS.Timeout | undefined;
  #pongTimer: NodeJS.Timeout | undefined;
  /** Bytes sent before the last ping that was answered. */
  #arrived = 0;

  constructor({ session, link, emptyFrames }: Dialled, isLocal: boolean, window: ReceiveWindow | undefined) {
    this.#session = session;
    this.#link = link;
    this.#emptyFrames = emptyFrames;
    this.#smallFrames = isLocal ? undefined : new SmallFrames();
    this.#window = window;
    link?.on("cut", () => {
      if (this.#streams === 0) {
        session.destroy(); // No stream waits for it to resume.
      }
    });
    session.on("goaway", () => {
      this.#leaving = true;
    });
    session.once("close", () => this.#stopTimers());
    this.#becomeIdle();
  }

  get isCut(): boolean {
    return this.#link?.isCut === true;
  }

  get failure(): Error | undefined {
    return this.#link?.errored ?? undefined;
  }

  /** True if the session takes another stream now. */
  hasRoomFor({ carriesInput = false }: StreamOptions): boolean {
    if (this.#leaving || this.#holdsUnsent || this.isCut || this.#session.closed || this.#session.destroyed) {
      return false;
    }
    if (carriesInput && this.#carriesInput) {
      return false;
    }
    // Beyond the peer's limit Node would silently queue the stream until another one ends.
    const limit = this.#session.remoteSettings.maxConcurrentStreams ?? maxStreamsPerSession;
    return this.#streams < Math.min(limit, maxStreamsPerSession);
  }

  open(
    headers: OutgoingHttpHeaders,
    { endStream = false, carriesInput = false }: StreamOptions,
  ): ClientHttp2Stream {
    const stream = this.#session.request(headers, { endStream });
    this.#dropWhenReset(stream);
    packWaiting(stream);
    this.#emptyFrames.watch(stream);
    this.#smallFrames?.watch(stream);
    readOnDemand(stream);
    this.#carriesInput ||= carriesInput;
    this.#window?.opened();
    if (this.#streams++ === 0) {
      this.#becomeBusy();
    }
    stream.once("close", () => {
      this.#window?.closed();
      this.#carriesInput &&= !carriesInput;
      if (--this.#streams === 0) {
        this.#becomeIdle();
      }
    });
    return stream;
  }

  /** A reset alone would wait behind what the peer does not read, and so would further calls. */
  #dropWhenReset(stream: ClientHttp2Stream): void {
    const close = stream.close.bind(stream);
    stream.close = (code = constants.NGHTTP2_NO_ERROR, closed) => {
      this.#holdsUnsent ||= code !== constants.NGHTTP2_NO_ERROR && stream.writableLength > 0;
      close(code, closed);
      if (code !== constants.NGHTTP2_NO_ERROR) {
        stream.destroy();
      }
    };
  }

  /** Counts bytes read from a stream, but for those in small frames beyond the allowance: they earn no larger window. */
  notifyRead(bytes: number): void {
    if (this.#smallFrames?.areTooMany !== true) {
      this.#window?.read(bytes);
    }
  }

  destroy(): void {
    this.#session.destroy();
  }

  #becomeBusy(): void {
    clearTimeout(this.#idleTimer);
    this.#session.ref();
    if (this.#smallFrames !== undefined) {
      this.#pingTimer = setInterval(() => this.#ping(), pingIntervalMs).unref();
    }
  }

  #becomeIdle(): void {
    this.#stopTimers();
    if (this.#session.destroyed) {
      return;
    }
    this.#session.unref();
    if (this.isCut || this.#leaving || this.#holdsUnsent) {
      this.#session.destroy(); // Closing would wait for the peer to read what it was sent.
      return;
    }
    this.#idleTimer = setTimeout(() => this.#session.destroy(), idleCloseMs).unref();
  }

  #ping(): void {
    if (this.#pongTimer !== undefined || this.#session.destroyed) {
      return;
    }
    const limitMs = this.#link === undefined ? pingTimeoutMs : linkPingTimeoutMs;
    const sent = this.#session.socket?.bytesWritten ?? 0;
    // After a GOAWAY no ping is sent: its streams have five minutes, whatever comes.
    const mayBeSilent =
      this.#leaving || (this.#link === undefined && sent - this.#arrived > patientAboveBytes);
    let received = this.#received;
    let waitedMs = 0;
    const check = (): void => {
      waitedMs += this.isCut ? 0 : limitMs;
      if (waitedMs >= pongTimeoutMs) {
        this.#session.destroy(stoppedAnswering());
      } else if (this.#received === received && !mayBeSilent) {
        this.#giveUp();
      }
      received = this.#received;
    };
    this.#pongTimer = setInterval(check, limitMs).unref();
    this.#session.ping((error) => {
      if (error !== null) {
        return; // It was not sent.
      }
      this.#arrived = sent;
      clearInterval(this.#pongTimer);
      this.#pongTimer = undefined;
    });
  }

  get #received(): number | undefined {
    return this.#link?.received ?? this.#session.socket?.bytesRead;
  }

  /** Leaves a connection on which nothing comes any more. */
  #giveUp(): void {
    if (this.#link === undefined) {
      this.#session.destroy(stoppedAnswering());
    } else {
      this.#link.renew();
    }
  }

  #stopTimers(): void {
    clearTimeout(this.#idleTimer);
    clearInterval(this.#pingTimer);
    clearInterval(this.#pongTimer);
    this.#pongTimer = undefined;
  }
}

function stoppedAnswering(): ConnectError {
  return new ConnectError("the agent stopped answering", Code.Unavailable);
}
