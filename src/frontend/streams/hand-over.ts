/**
 * Hand-over of clients' connections: the agent beside a local container holds the bytes and takes over the client's
 * unix socket. The forwarder, a separate process, passes the descriptor on, as Node can pass one only to a child. Only
 * this module decides which connections are handed over, before a route runs ({@link HandOver.mayHandOver}) and by the
 * location of the bytes ({@link HandOver.mayTake}), which for a log the forwarder looks at: it refuses one that is
 * elsewhere. All others go through the workers. For those the forwarder detects when the answer's header was read
 * ({@link HandOver.isRead}).
 */
import type { IncomingMessage } from "node:http";
import { connect, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

import type { JsonValue } from "@bufbuild/protobuf";

import type { HandOverOffer } from "../../agent-client/agent-stream.ts";
import { ChannelProcess } from "../../common/channel-process.ts";
import { handleOf, type SocketHandle } from "../../common/socket-handle.ts";
import { errnoOf, systemError } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { AgentEndpoint } from "../../gen/sockerless/backend/v1/endpoint_pb.ts";

/** The forwarder gives a client a second to read; without a reply within this time it counts as stuck. */
const replyLimitMs = 3_000;

/** An agent that holds a connection for this long counts as alive. */
const aliveAfterMs = 1_000;

/** The forwarder's reply about a connection: it holds it, or could not pass it on. */
interface Answer {
  readonly id: number;
  /** Empty if the forwarder holds it. */
  readonly error: string;
  /** False if the connection is still ours. */
  readonly sent: boolean;
}

/** In place of a reply, where the agent has confirmed that it has the connection. */
const confirmed: Answer = { id: 0, error: "", sent: true };

/** The forwarder's reply, with the bytes that were read from the connection before. */
type Passed = Omit<Answer, "id"> & { readonly early: Buffer };

/** Parts of a request that its connection may be handed over for, besides hijacked sessions. */
export type HandedPart =
  /** The whole answer. */
  | "answer"
  /** The body of the answer, after its header. */
  | "body"
  /** The body of the request. */
  | "upload";

/** A call that answers a request. */
export type HeldCall =
  /** A wait for the end of a container: the backend's request as JSON. */
  | { readonly kind: "wait"; readonly request: JsonValue; readonly contentType: string }
  /**
   * A log. The forwarder opens it at the backend, reads it from an agent on this machine, and hands the client to the
   * agent if that offers to take it.
   */
  | {
      readonly kind: "log";
      /** The backend's request as JSON. */
      readonly open: JsonValue;
      /** The agent's request, encoded; the forwarder adds what the backend tells of the container. */
      readonly request: Uint8Array;
      /** True if lines begin with the log driver's attributes. */
      readonly details: boolean;
      readonly contentType: string;
      /** In its place for a container with a terminal. */
      readonly ttyContentType: string;
    };

/** An answer that the forwarder writes. */
export interface HeldAnswer {
  readonly call: HeldCall;
  /** Headers of the call. */
  readonly headers: Readonly<Record<string, string>>;
  /** The beginning of an answer with a content type, up to its chunked body. */
  readonly headOf: (contentType: string) => string;
}

/** A request that the forwarder guards. */
export interface Guard {
  /** The container's name in the client's request. */
  readonly container: string;
  /** True if waits that arrive after the loss break as well. */
  readonly attached?: boolean;
  /** Written if this process dies before {@link GuardedRequest.begun}. */
  readonly farewell?: Buffer;
}

/** Reports the progress of a request; disposing reports that it was answered. */
export interface GuardedRequest extends Disposable {
  /**
   * The agent of its stream is known: from now on waits of its client's process for the same container report a success
   * only once it is answered.
   */
  served(): void;
  /** Its stream is served by this process. */
  begun(): void;
  /** Breaks those waits. */
  lost(): void;
}

/** A guarded request, as sent to the forwarder. */
interface Guarded {
  readonly guarded: number;
  guard: {
    readonly container: string;
    readonly attached: boolean;
    readonly farewell: string;
    readonly served: boolean;
  };
}

/**
 * The forwarder beside this frontend; it outlives the frontend while it has connections to pass on or clients that
 * wait.
 */
export class HandOver {
  readonly #backend: string | undefined;
  readonly #logger: Logger;
  readonly #pending = new Map<number, PromiseWithResolvers<Answer>>();
  readonly #guarded = new Map<Duplex, Guarded>();
  readonly #forwarder: ChannelProcess<Answer>;
  #lastId = 0;

  /**
   * @param program the agent's executable
   * @param backend path of the backend's socket; undefined: nothing is handed over
   */
  constructor(program: string, backend: string | undefined, logger: Logger) {
    this.#backend = backend;
    this.#logger = logger;
    this.#forwarder = new ChannelProcess({ program, mode: "forwarder", name: "forwarder" }, logger, {
      started: () => {
        for (const [client, request] of this.#guarded) {
          void this.#lookAfter(client, request);
        }
      },
      told: (answer) => this.#pending.get(answer.id)?.resolve(answer),
      ended: (reason) => {
        for (const { reject } of this.#pending.values()) {
          reject(systemError(`the forwarder has ended (${reason})`));
        }
      },
    });
    this.#forwarder.start();
  }

  /**
   * True for a client on a unix socket whose stream comes from an agent on this machine, which is then asked for an
   * offer. Not over TLS, and not if the output is framed by us, as on a WebSocket.
   */
  mayTake(client: Duplex, endpoint: AgentEndpoint | undefined): boolean {
    return this.#mayHandOn(client) && endpoint?.address.case === "unixPath";
  }

  /**
   * True for a request on a unix socket whose answer another process may write, or whose body it may read, as the last
   * request of its connection: nothing follows the header, and the client does not wait for `100 Continue`.
   */
  mayHandOver({ socket, httpVersion, headers }: IncomingMessage, part: HandedPart): boolean {
    const { "transfer-encoding": coding, "content-length": length, expect } = headers;
    if (!this.#mayHandOn(socket) || httpVersion !== "1.1") {
      return false;
    }
    if (part !== "upload") {
      return coding === undefined && Number(length ?? 0) === 0 && expect === undefined;
    }
    const isFramed =
      coding === undefined ? /^[1-9]\d{0,14}$/.test(length ?? "") : coding.trim().toLowerCase() === "chunked";
    return isFramed && (expect === undefined || expect.toLowerCase() === "100-continue");
  }

  /**
   * Passes a client's connection, with the bytes already read from it, to the agent that has made an offer. This
   * process keeps a copy that must not be read or written while the agent lives. For a session the copy keeps the
   * client from taking the agent's death for the end of the stream; otherwise it must be closed: an answer whose agent
   * dies is unfinished, which every client takes for an error.
   *
   * @param handed resolves once the agent confirms that it has the connection; undefined: the forwarder confirms
   * @returns undefined once it is handed over; otherwise the connection stays here, because the client or the forwarder
   *   is gone or no agent took it: the returned bytes precede all that is still to be read
   * @throws SockerlessError if it is unknown which process has it
   */
  async give(
    client: Duplex,
    { socket, token }: HandOverOffer,
    handed?: Promise<void>,
  ): Promise<Buffer | undefined> {
    await written(client);
    const answer = await this.#pass(client, { socket, token, tell: handed === undefined }, handed);
    if (!answer.sent) {
      this.#logger.warn({ reason: answer.error }, "a connection was not handed on");
      return answer.early;
    }
    if (answer.error !== "") {
      throw systemError(answer.error);
    }
    return undefined;
  }

  /**
   * Has the forwarder answer a client. It holds the client's connection from the answer's header on, which is when this
   * resolves: our copy is to be closed then. What was read of it is dropped: no other request follows.
   *
   * @returns false if the forwarder is gone or the call is refused: the request must be answered here
   * @throws SockerlessError if it is unknown whether the client was answered
   */
  async hold(client: Socket, { call, headers, headOf }: HeldAnswer): Promise<boolean> {
    const held = { head: headOf(call.contentType), headers, ...this.#heldCallOf(call, headOf) };
    const answer = await this.#pass(client, { held });
    return answer.sent;
  }

  /** A call, as sent to the forwarder. */
  #heldCallOf(call: HeldCall, headOf: HeldAnswer["headOf"]): object {
    const backend = this.#backend;
    if (call.kind === "wait") {
      return { wait: { backend, request: call.request } };
    }
    const { open, details } = call;
    const request = Buffer.from(call.request).toString("base64");
    return { log: { backend, open, request, details, tty_head: headOf(call.ttyContentType) } };
  }

  /**
   * Has the forwarder guard a request for a container. If the request is lost, also by the death of this process, a
   * wait of the same client for that container may never end, or end without the output.
   *
   * @returns once it is guarded; at once if the client can have no wait
   */
  async guard(client: Duplex, { container, attached = false, farewell }: Guard): Promise<GuardedRequest> {
    const guard = { container, attached, farewell: farewell?.toString("base64") ?? "", served: false };
    const request: Guarded = { guarded: ++this.#lastId, guard };
    if (this.#backend !== undefined && isOnUnixSocket(client)) {
      this.#guarded.set(client, request);
      await this.#lookAfter(client, request);
    }
    const tell = (state: "served" | "begun" | "lost" | "settled"): void => {
      if (this.#guarded.get(client) === request && this.#forwarder.isReady) {
        this.#forwarder.send({ guarded: request.guarded, state }); // Also sent to the next forwarder.
      }
    };
    const end = (state: "lost" | "settled"): void => {
      tell(state);
      this.#guarded.delete(client);
    };
    return {
      served: () => {
        request.guard = { ...request.guard, served: true };
        tell("served");
      },
      begun: () => {
        request.guard = { ...request.guard, farewell: "" };
        tell("begun");
      },
      lost: () => end("lost"),
      [Symbol.dispose]: () => end("settled"),
    };
  }

  async #lookAfter(client: Duplex, request: Guarded): Promise<void> {
    const handle = this.#forwarder.isReady ? handleOf(client) : undefined;
    if (handle !== undefined && !(await this.#isDone(handle, request))) {
      this.#logger.warn({ container: request.guard.container }, "a request is not looked after");
    }
  }

  /**
   * Resolves once a client on a unix socket has read all that was written to it, or after a second: only a process with
   * the connection's descriptor can ask the kernel.
   *
   * @returns false if that cannot be known
   */
  async isRead(client: Duplex): Promise<boolean> {
    await written(client);
    const handle = this.#reaches(client) ? handleOf(client) : undefined;
    if (handle === undefined) {
      return false;
    }
    return await this.#isDone(handle, { read: true });
  }

  /**
   * Whether the forwarder performs an operation on a connection that stays ours; false if it fails or does not reply.
   */
  async #isDone(handle: SocketHandle, message: object): Promise<boolean> {
    const told = new AbortController();
    try {
      const late = sleep(replyLimitMs, undefined, { signal: told.signal });
      const answer = await Promise.race([this.#ask(handle, message), late]);
      return answer?.error === "";
    } catch (error) {
      this.#logger.debug({ err: error }, "the forwarder does nothing for a client");
      return false;
    } finally {
      told.abort();
    }
  }

  /**
   * Sends a connection and the bytes already read from it to the forwarder.
   *
   * @param handed resolves once another process confirms that it has the connection
   * @returns the first of the forwarder's reply and `handed`, with the bytes read
   * @throws SockerlessError if the forwarder has died with it
   */
  async #pass(client: Duplex, message: object, handed?: Promise<void>): Promise<Passed> {
    const handle = client.destroyed || !this.#forwarder.isReady ? undefined : handleOf(client);
    if (handle === undefined) {
      return { sent: false, error: "the client is gone, or the forwarder", early: Buffer.alloc(0) };
    }
    const early = takeRead(client, handle);
    const guarded = this.#guarded.get(client)?.guarded;
    const answer = await this.#ask(handle, { early: early.toString("base64"), guarded, ...message }, handed);
    if (answer.sent) {
      this.#guarded.delete(client);
    } else {
      handle.readStart();
    }
    return { ...answer, early };
  }

  /**
   * Sends a connection's descriptor to the forwarder.
   *
   * @param handed as of {@link #pass}
   * @throws SockerlessError if the forwarder has died with it
   */
  async #ask(handle: SocketHandle, message: object, handed?: Promise<void>): Promise<Answer> {
    const id = ++this.#lastId;
    const told = Promise.withResolvers<Answer>();
    this.#pending.set(id, told);
    try {
      this.#forwarder.send({ id, ...message }, handle, (error) => {
        if (error !== null) {
          told.reject(error);
        }
      });
      const other = handed === undefined ? [] : [handed.then(() => confirmed)];
      return await Promise.race([told.promise, ...other]);
    } finally {
      this.#pending.delete(id);
    }
  }

  /** Lets the forwarder end. Streams that were handed over continue, and so do waits. */
  close(): void {
    this.#forwarder.close();
  }

  #mayHandOn(client: Duplex): boolean {
    return this.#backend !== undefined && this.#reaches(client);
  }

  /** True for a client on a plain unix socket. */
  #reaches(client: Duplex): client is Socket {
    return this.#forwarder.isReady && isOnUnixSocket(client);
  }
}

/** True if the agent that made an offer at a socket is dead, so that nobody writes to the connections that it took. */
export async function hasDied(socket: string): Promise<boolean> {
  const probe = connect(socket);
  const closed = new AbortController();
  let isBusy = false;
  probe.once("error", (error) => {
    isBusy = errnoOf(error) === "EAGAIN"; // The queue is full, so somebody listens.
  });
  probe.once("close", () => closed.abort());
  try {
    await sleep(aliveAfterMs, undefined, { signal: closed.signal });
    return false;
  } catch {
    return !isBusy;
  } finally {
    probe.destroy();
  }
}

function isOnUnixSocket(client: Duplex): client is Socket {
  return client instanceof Socket && !client.destroyed && client.remoteAddress === undefined;
}

/** Waits until everything written to a socket has reached the kernel. */
async function written(client: Duplex): Promise<void> {
  if (client.writableLength > 0 && !client.destroyed) {
    const { promise, resolve } = Promise.withResolvers<void>();
    client.write("", () => resolve());
    await promise;
  }
}

/**
 * Takes the bytes read from a socket and stops reading, in one step, as the kernel is read between steps only. Requests
 * no more bytes than are buffered: reading on could also report the client's end, and nothing could be put back.
 */
function takeRead(client: Duplex, handle: SocketHandle): Buffer {
  client.pause();
  const early: Buffer[] = [];
  while (client.readableLength > 0) {
    early.push(client.read(client.readableLength) as Buffer);
  }
  handle.readStop();
  return Buffer.concat(early);
}

/** Reads a connection again that no other process reads any more, and drops what comes: its client's leaving shows. */
export function readAgain(client: Socket): void {
  handleOf(client)?.readStart();
  client.resume();
}
