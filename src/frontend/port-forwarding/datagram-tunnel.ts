/** One exchange of datagrams through an agent's tunnel. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import { datagramsHeader, type DialTarget } from "../../agent-client/address.ts";
import { agentClientOver, usualWindow } from "../../agent-client/client.ts";
import { ConnectionPool } from "../../agent-client/connection-pool.ts";
import { ByteBudget } from "../../common/byte-budget.ts";
import { systemError } from "../../common/errors.ts";
import { onAbort } from "../../common/on-abort.ts";
import type { TunnelOpen, TunnelRequestSchema } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { DatagramFlow } from "./udp-port.ts";

/** Maximum number of a flow's queued datagrams; further ones are dropped, as in any network queue. */
const maxQueued = 64;
/** Bytes of all flows' queued datagrams, apart from the least of each. */
const allQueued = new ByteBudget(16 * 1024 * 1024);
/** The largest datagram. */
const leastQueuedBytes = 64 * 1024;
const mostQueuedBytes = 512 * 1024;
/**
 * Connections to agents, which a container's exchanges share: whoever reaches a port may begin a thousand by a datagram
 * each, and a TLS handshake takes this thread milliseconds.
 */
const connections = new ConnectionPool(usualWindow);
/** Bound of the protocol definition. */
const heartbeatMs = 10_000;

type Request = MessageInitShape<typeof TunnelRequestSchema>;

/** The agent of an exchange, and callbacks for its datagrams and its end. */
export interface DatagramTunnelOptions {
  /** Resolves the tunnel's endpoint; rejects once the exchange is closed. */
  readonly place: (
    closed: AbortSignal,
  ) => Promise<{ readonly target: DialTarget; readonly open: TunnelOpen }>;
  readonly answer: (datagram: Uint8Array) => void;
  /** Called once. @param error undefined if it was closed from here */
  readonly ended: (error: unknown) => void;
}

/** Opens an exchange; datagrams sent before it is open are queued. */
export function openDatagramTunnel({ place, answer, ended }: DatagramTunnelOptions): DatagramFlow {
  const queue = new DatagramQueue();
  const closed = new AbortController();
  const run = async (): Promise<void> => {
    using _queue = queue;
    const { target, open } = await place(closed.signal);
    const agent = agentClientOver(connections.connectionTo(target), target);
    const over = new AbortController();
    const signal = AbortSignal.any([closed.signal, over.signal]);
    try {
      const answers = agent.tunnel(queue.requests(open, signal), {
        signal,
        headers: { [datagramsHeader]: "1" },
      });
      for await (const { message } of answers) {
        if (message.case === "data") {
          answer(message.value.data);
        } else if (message.case === "error") {
          throw systemError(message.value.message);
        }
      }
    } finally {
      over.abort();
    }
  };
  void run().then(
    () => ended(undefined),
    (error: unknown) => ended(closed.signal.aborted ? undefined : error),
  );
  return { send: (datagram) => queue.push(datagram), close: () => closed.abort() };
}

/** Queue of datagrams between a socket's events and a reader. */
export class DatagramQueue {
  readonly #waiting: Uint8Array[] = [];
  #bytes = 0;
  #isClosed = false;
  #wake: (() => void) | undefined;
  #offset = 0n;

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Adds a datagram, or drops it if too many wait. */
  push(datagram: Uint8Array): void {
    const bytes = this.#bytes + datagram.length;
    const hasRoom = bytes <= allQueued.share(leastQueuedBytes, mostQueuedBytes);
    if (!this.#isClosed && this.#waiting.length < maxQueued && hasRoom) {
      this.#waiting.push(datagram);
      this.#count(datagram.length);
      this.#wake?.();
    }
  }

  /** Drops all that waits, and takes no more. */
  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#waiting.splice(0);
    this.#count(-this.#bytes);
  }

  #count(bytes: number): void {
    this.#bytes += bytes;
    allQueued.take(bytes);
  }

  async *requests(open: TunnelOpen, closed: AbortSignal): AsyncGenerator<Request> {
    yield { message: { case: "open", value: open } };
    while (!closed.aborted) {
      const data = this.#waiting.shift();
      if (data !== undefined) {
        this.#count(-data.length);
        yield { message: { case: "data", value: { offset: this.#offset, data } } };
        this.#offset += BigInt(data.length);
      } else if (!(await this.#filled(closed))) {
        yield { message: { case: "heartbeat", value: {} } };
      }
    }
  }

  /** @returns false if a heartbeat is due because nothing has arrived for long */
  async #filled(closed: AbortSignal): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#wake = () => resolve(true);
    using _closing = onAbort(closed, this.#wake);
    const timer = setTimeout(() => resolve(false), heartbeatMs).unref();
    const filled = await promise;
    clearTimeout(timer);
    this.#wake = undefined;
    return filled;
  }
}
