/**
 * Connections to registries and the servers that they name. A process of its own (agent/tlsport) looks names up, asks
 * proxies and does the handshakes, so that neither a certificate nor a silent name server costs this one anything.
 */
import { Socket } from "node:net";

import { builtPrograms } from "../../../common/built-programs.ts";
import { ChannelProcess } from "../../../common/channel-process.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { forgetOldest } from "../../../common/forget-oldest.ts";
import type { SocketHandle } from "../../../common/socket-handle.ts";
import { holdEnd } from "../../../common/held-end.ts";
import type { LineLogger } from "../../../common/process-log.ts";
import { authorityCertificates } from "./authorities.ts";

/** A server to connect to. */
export interface DialTarget {
  readonly host: string;
  readonly port: number;
  /** Speak TLS; an insecure server may have any certificate. */
  readonly tls: { readonly insecure: boolean } | undefined;
  /** Ask the environment's proxy for it, by CONNECT, if there is one. */
  readonly proxied?: boolean;
  /** It is the proxy itself, which may have any address. */
  readonly proxy?: boolean;
}

/** No connection, or no more of it, in the words of Go's net package; `code` is Node's name for it, if it has one. */
export class DialFailure extends Error {
  readonly code: string | undefined;

  constructor(message: string, code: string) {
    super(message);
    this.code = code === "" ? undefined : code;
  }
}

/**
 * Addresses where clouds provide a machine's credentials: users of the API must not get the backend's own. The process
 * refuses them once names are resolved.
 */
const metadataServices: readonly string[] = [
  "169.254.0.0/16",
  "fe80::/10",
  "fd00:ec2::/32",
  "fd20:ce::/32", // Google Cloud
  "100.100.100.200/32", // Alibaba Cloud
  "168.63.129.16/32", // Azure: the machine agent, on ports 80 and 32526.
];

/** Longer than the process takes for all it does, or to be started again after a crash. */
const longestMs = 120_000;

/** The most kept-alive connections that wait for a request, of all clients together. */
export const mostIdle = 128;

/** Messages of the process; the first comes with a socket. */
type Told =
  | { readonly id: number }
  | { readonly id: number; readonly proxy: string }
  | { readonly id: number; readonly state: "ended" }
  | { readonly id: number; readonly error: string; readonly code: string };

/** Something asked of the process. */
interface Question {
  readonly message: object;
  /** True once it is in the channel. */
  isAsked: boolean;
  answer(told: Told, handle: SocketHandle | undefined): void;
  fail(error: Error): void;
}

const silent: LineLogger = { debug() {}, info() {}, warn() {}, error() {} };

/** Dials by a process that is started with the first dial, and again whenever it ends. */
export class Dialer {
  #logger = silent;
  #process: ChannelProcess<Told> | undefined;
  #lastId = 0;
  readonly #questions = new Map<number, Question>();
  /** Connections by TLS: says how each has ended. */
  readonly #connections = new Map<number, (error?: Error) => void>();
  /** Connections whose answers nobody awaits, the longest idle first. */
  readonly #idle = new Set<Socket>();

  /** Has a process that is started from now on log there. */
  logTo(logger: LineLogger): void {
    this.#logger = logger;
  }

  /** Connects. @throws DialFailure; the signal's reason */
  dial(target: DialTarget, signal: AbortSignal): Promise<Socket> {
    const id = ++this.#lastId;
    return this.#ask(id, { dial: { id, ...target } }, signal, (_, handle) => {
      const socket = new Socket({ handle } as object);
      socket.once("close", () => this.#idle.delete(socket));
      return target.tls === undefined ? socket : this.#follow(id, socket);
    });
  }

  /** The environment's proxy for a URL; undefined if there is none. @throws DialFailure; the signal's reason */
  proxyOf(url: URL, signal: AbortSignal): Promise<URL | undefined> {
    const id = ++this.#lastId;
    return this.#ask(id, { proxyOf: { id, url: url.origin } }, signal, (told) =>
      "proxy" in told && told.proxy !== "" ? new URL(told.proxy) : undefined,
    );
  }

  /** Counts a connection as idle until it is used again; of too many the longest idle is closed. */
  keepIdle(socket: Socket): void {
    if (socket.destroyed) {
      return;
    }
    this.#idle.delete(socket);
    this.#idle.add(socket);
    forgetOldest(this.#idle, mostIdle)?.destroy();
  }

  /** Counts a connection as in use. */
  use(socket: Socket): void {
    this.#idle.delete(socket);
  }

  /** Ends the process, and all connections by TLS. */
  close(): void {
    this.#process?.close();
    this.#process = undefined;
    this.#ended("it was closed");
  }

  async #ask<T>(
    id: number,
    message: object,
    signal: AbortSignal,
    read: (told: Told, handle: SocketHandle | undefined) => T,
  ): Promise<T> {
    signal.throwIfAborted();
    const answered = Promise.withResolvers<T>();
    const question: Question = {
      message,
      isAsked: false,
      answer(told, handle) {
        try {
          answered.resolve(read(told, handle));
        } catch (error) {
          answered.reject(error);
        }
      },
      fail: answered.reject,
    };
    const cancel = (reason: unknown): void => {
      answered.reject(reason);
      this.#questions.delete(id);
      this.#process?.send({ cancel: id });
    };
    using _leaving = onAbort(signal, () => cancel(signal.reason));
    const limit = setTimeout(
      () => cancel(new DialFailure("the TLS dialer does not answer", "ETIMEDOUT")),
      longestMs,
    );
    this.#questions.set(id, question);
    this.#start();
    this.#pass(question);
    try {
      return await answered.promise;
    } finally {
      clearTimeout(limit);
      this.#questions.delete(id);
    }
  }

  #start(): void {
    if (this.#process !== undefined) {
      return;
    }
    const program = { program: builtPrograms.agent, mode: "tls-dialer", name: "TLS dialer" };
    this.#process = new ChannelProcess(program, this.#logger, {
      started: () => this.#started(),
      told: (told, handle) => this.#take(told, handle),
      ended: (reason) => this.#ended(reason),
    });
    this.#process.start();
  }

  #started(): void {
    const authorities = authorityCertificates().join("\n");
    this.#process?.send({ settings: { authorities, refused: metadataServices } });
    for (const question of this.#questions.values()) {
      this.#pass(question);
    }
  }

  /** Asks, unless that was done; without a process the question waits for the next one. */
  #pass(question: Question): void {
    if (this.#process?.isReady === true && !question.isAsked) {
      question.isAsked = true;
      this.#process.send(question.message);
    }
  }

  #take(told: Told, handle: SocketHandle | undefined): void {
    const question = this.#questions.get(told.id);
    const end = this.#connections.get(told.id);
    if ("state" in told) {
      end?.();
    } else if ("error" in told) {
      const failure = new DialFailure(told.error, told.code);
      question?.fail(failure);
      end?.(failure);
    } else if (question !== undefined) {
      question.answer(told, handle);
    } else if (handle !== undefined) {
      new Socket({ handle } as object).destroy(); // It was cancelled.
    }
  }

  /** Those that were asked fail: what the process died of may have been one of them. */
  #ended(reason: string): void {
    const lost = new DialFailure(`the TLS dialer has ended (${reason})`, "ECONNRESET");
    for (const question of this.#questions.values()) {
      if (question.isAsked) {
        question.fail(lost);
      }
    }
    for (const end of this.#connections.values()) {
      end(lost);
    }
  }

  /** Makes a connection by TLS end as the process says. */
  #follow(id: number, socket: Socket): Socket {
    this.#connections.set(id, holdEnd(socket));
    socket.once("close", () => {
      this.#connections.delete(id);
      this.#process?.send({ cancel: id });
    });
    return socket;
  }
}
