/**
 * TLS of TCP listeners, most of which demand certificates of their clients. This process accepts their connections; a
 * process of its own (agent/tlsport) does their handshakes, so that neither certificates nor key updates cost this one
 * anything, and gives back a unix socket for each client whose handshake is done. How a connection ends is said over the
 * channel between the two: the end of a socket alone may be the death of the process behind it.
 */
import { createServer, type Server, Socket } from "node:net";

import { builtPrograms } from "./built-programs.ts";
import { ChannelProcess } from "./channel-process.ts";
import { handleOf, type SocketHandle } from "./socket-handle.ts";
import { systemError } from "./errors.ts";
import { holdEnd } from "./held-end.ts";
import type { MutualTls, ServerTls, TlsListener } from "./listen.ts";
import type { LineLogger } from "./process-log.ts";
import { maxStrangers, type StrangerNews, Strangers } from "./strangers.ts";

/** Time for a connection to wait until the process runs again. */
const waitMs = 15_000;

/** Time for the process to pass on the ends of connections that are closed. */
const finishMs = 1_000;

/** Messages of the process. */
type Told =
  | { readonly configured: number; readonly error: string }
  /** An unauthenticated connection has ended; it hung up, if there is no reason. */
  | { readonly turnedAway: string; readonly reason: string }
  /** A new client, with its socket. */
  | { readonly id: number; readonly remote: string }
  | { readonly id: number; readonly state: "ended" | "cut" };

/** A client's connection was cut by the death of the TLS terminator: the client has not left. */
export class TerminatorLost extends Error {
  constructor(reason: string) {
    super(`the TLS terminator has ended (${reason})`);
  }
}

/** Settings of a {@link TlsTerminator}. */
export interface TerminatorOptions {
  /** Without an authority no client is asked for a certificate. */
  readonly tls: ServerTls | MutualTls;
  /** Protocols of ALPN, the best first. */
  readonly protocols: readonly string[];
  /** Takes the connection of a client whose handshake is done: what it says is no longer encrypted. */
  readonly serve: (socket: Socket) => void;
  /** Most connections at a time whose handshake is not done yet. */
  readonly strangers?: number;
  readonly report: (news: StrangerNews) => void;
  readonly logger: LineLogger;
}

/** Terminates the TLS of the listeners that it makes. */
export class TlsTerminator implements TlsListener {
  readonly #options: TerminatorOptions;
  readonly #process: ChannelProcess<Told>;
  readonly #strangers: Strangers;
  readonly #listeners = new Set<Server>();
  /** Accepted, and not yet passed on; the longest waiting first. */
  readonly #waiting = new Map<Socket, string>();
  readonly #clients = new Map<number, Client>();
  readonly #configuring = new Map<number, PromiseWithResolvers<void>>();
  #tls: ServerTls | MutualTls;
  #lastSeq = 0;
  #onceEnded: (() => void) | undefined;
  #onceAlone: (() => void) | undefined;

  /** @throws SockerlessError if the process cannot be started, or not with these certificates */
  static async start(options: TerminatorOptions): Promise<TlsTerminator> {
    const terminator = new TlsTerminator(options);
    const configured = terminator.#configured(terminator.#lastSeq + 1);
    terminator.#process.start();
    try {
      await configured;
    } catch (error) {
      terminator.#process.close();
      throw error;
    }
    return terminator;
  }

  private constructor(options: TerminatorOptions) {
    this.#options = options;
    this.#tls = options.tls;
    this.#strangers = new Strangers(options.report);
    const program = { program: builtPrograms.agent, mode: "tls-terminator", name: "TLS terminator" };
    this.#process = new ChannelProcess(program, options.logger, {
      started: () => {
        this.#configure(this.#tls);
        for (const [socket, remote] of this.#waiting) {
          this.#pass(socket, remote);
        }
      },
      told: (message, handle) => this.#take(message, handle),
      ended: (reason) => {
        for (const { reject } of this.#configuring.values()) {
          reject(systemError(`the TLS terminator has ended (${reason})`));
        }
        for (const client of this.#clients.values()) {
          client.cut(new TerminatorLost(reason));
        }
        this.#clients.clear();
        this.#onceAlone?.();
        this.#onceEnded?.();
      },
    });
  }

  /** Makes a listener for TCP, which the caller binds. */
  createListener(): Server {
    // Nothing of a connection is read here.
    const listener = createServer({ pauseOnConnect: true }, (socket) => this.#accept(socket));
    this.#listeners.add(listener);
    listener.once("close", () => this.#listeners.delete(listener));
    return listener;
  }

  async setCertificates(tls: MutualTls): Promise<void> {
    if (this.#process.isReady) {
      const configured = this.#configured(this.#lastSeq + 1);
      this.#configure(tls);
      await configured;
    }
    this.#tls = tls;
  }

  /** Stops accepting; clients stay. @returns once the last of them is gone */
  async stopListening(): Promise<void> {
    for (const listener of this.#listeners) {
      listener.close();
    }
    const alone = Promise.withResolvers<void>();
    this.#onceAlone = alone.resolve;
    if (this.#clients.size === 0) {
      alone.resolve();
    }
    await alone.promise;
  }

  /** Lets the ends of connections reach their clients for a moment, and cuts those that are left. */
  async close(): Promise<void> {
    void this.stopListening();
    for (const socket of this.#waiting.keys()) {
      socket.destroy();
    }
    if (this.#process.isReady) {
      const ended = Promise.withResolvers<void>();
      this.#onceEnded = ended.resolve;
      const limit = setTimeout(ended.resolve, finishMs);
      this.#process.retire({ finish: true });
      await ended.promise;
      clearTimeout(limit);
    }
    this.#process.close();
  }

  #configure(tls: ServerTls | MutualTls): void {
    const { protocols, strangers = maxStrangers } = this.#options;
    this.#process.send({ tls: { seq: ++this.#lastSeq, ...tls, protocols, strangers } });
  }

  async #configured(seq: number): Promise<void> {
    const configured = Promise.withResolvers<void>();
    this.#configuring.set(seq, configured);
    try {
      await configured.promise;
    } finally {
      this.#configuring.delete(seq);
    }
  }

  #accept(socket: Socket): void {
    const { remoteAddress = "", remotePort = 0 } = socket;
    const remote = `${remoteAddress} ${remotePort}`;
    socket.on("error", () => {});
    const limit = setTimeout(() => socket.destroy(), waitMs).unref();
    socket.once("close", () => {
      clearTimeout(limit);
      this.#waiting.delete(socket);
    });
    this.#waiting.set(socket, remote);
    const [oldest] = this.#waiting;
    if (this.#waiting.size > maxStrangers && oldest !== undefined) {
      this.#waiting.delete(oldest[0]);
      this.#strangers.turnAway(
        oldest[1],
        `${maxStrangers} connections have not finished their handshakes yet`,
      );
      oldest[0].destroy();
    }
    this.#pass(socket, remote);
  }

  /** Passes a connection on, and forgets it; one that cannot be passed on waits for the next process. */
  #pass(socket: Socket, remote: string): void {
    const handle = handleOf(socket);
    if (this.#process.isReady && handle !== undefined) {
      this.#process.send({ remote }, handle, (error) => {
        if (error === null) {
          socket.destroy(); // Our copy only.
        }
      });
    }
  }

  #take(message: Told, handle: SocketHandle | undefined): void {
    if ("configured" in message) {
      const configuring = this.#configuring.get(message.configured);
      if (message.error === "") {
        configuring?.resolve();
      } else {
        configuring?.reject(systemError(`the certificates cannot be used: ${message.error}`));
      }
    } else if ("turnedAway" in message) {
      if (message.reason === "") {
        this.#strangers.hungUp();
      } else {
        this.#strangers.turnAway(message.turnedAway, message.reason);
      }
    } else if ("remote" in message) {
      if (handle !== undefined) {
        this.#serve(message.id, message.remote, handle);
      }
    } else if (message.state === "ended") {
      this.#clients.get(message.id)?.ended();
    } else {
      this.#clients.get(message.id)?.gone();
    }
  }

  #serve(id: number, remote: string, handle: SocketHandle): void {
    const client = new Client(remote, handle);
    this.#clients.set(id, client);
    const tell = (state: string): void => {
      if (this.#clients.get(id) === client && this.#process.isReady) {
        this.#process.send({ id, state });
      }
    };
    client.socket.once("finish", () => tell("ended"));
    client.socket.once("close", () => {
      tell(client.lastState);
      this.#clients.delete(id);
      if (this.#clients.size === 0) {
        this.#onceAlone?.();
      }
    });
    this.#options.serve(client.socket);
  }
}

/** A client whose handshake is done. */
class Client {
  /** Has the client's address, as a connection over TCP has. */
  readonly socket: Socket;
  readonly #sayEnd: (error?: Error) => void;
  #isReset = false;

  constructor(remote: string, handle: SocketHandle) {
    const socket = new Socket({ handle } as object);
    const [address, port] = remote.split(" ");
    Object.defineProperties(socket, {
      remoteAddress: { value: address },
      remotePort: { value: Number(port) },
      resetAndDestroy: {
        value: () => {
          this.#isReset = true;
          return socket.destroy();
        },
      },
    });
    socket.on("error", () => {});
    this.#sayEnd = holdEnd(socket);
    this.socket = socket;
  }

  /** The client sends no more. */
  ended(): void {
    this.#sayEnd();
  }

  /** The client has left without an end; all that it had sent is read first. */
  gone(): void {
    this.#sayEnd(new Error("the client's TLS connection was cut"));
  }

  /** Nobody knows whether the client has left. */
  cut(reason: TerminatorLost): void {
    this.socket.destroy(reason);
  }

  /** Tells, once the socket is closed, how the client's connection is to be. */
  get lastState(): "closed" | "cut" | "reset" {
    if (this.#isReset) {
      return "reset";
    }
    return this.socket.writableFinished ? "closed" : "cut";
  }
}
