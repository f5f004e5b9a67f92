/**
 * Bounds the total memory of long request headers, each of up to a mebibyte: of those that are unfinished, whose
 * connections may stay open for as long as a header may take, and of requests that may last for days.
 */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";

import { ByteBudget } from "../../common/byte-budget.ts";
import { WeightedMap } from "../../common/weighted-map.ts";
import { TooManyRequests } from "../admission.ts";

/** Bytes of a header that are not counted: only clients with long credentials send more. */
const ordinaryBytes = 16 * 1024;

/** Bytes of a finished header that always have room. */
const sureBytes = 64 * 1024;

/** Whether the text of a request's target and header is longer than usual. */
export function hasLongHeader(request: IncomingMessage): boolean {
  return textOf(request) > ordinaryBytes;
}

function textOf({ url = "", rawHeaders }: IncomingMessage): number {
  return rawHeaders.reduce((sum, text) => sum + text.length, url.length);
}

/** Bytes that a name and a value of a header take besides their text, each. */
const textBytes = 64;
/**
 * Memory of parameters and filter values besides their text: bytes for each character of the target, and the most, as
 * their number is bounded.
 */
const [queryFactor, mostOfQuery] = [12, 512 * 1024];

function lengthOf(request: IncomingMessage): number {
  const { url = "", rawHeaders } = request;
  return textOf(request) + Math.min(queryFactor * url.length, mostOfQuery) + rawHeaders.length * textBytes;
}

/** A finished header that is counted. */
interface Held {
  readonly bytes: number;
  /** Its connection, until it is forgotten, and its answers under way: a handler keeps its request when the client has left. */
  users: number;
}

/** The long headers of a server, or of several. */
export class LongHeaders {
  readonly #mostBytes: number;
  /** Bytes received of each unfinished long header, in the order in which the headers became long. */
  readonly #unfinished: WeightedMap<Socket>;
  /** Room for finished headers. */
  readonly #room: ByteBudget;
  readonly #held = new WeakMap<Socket, Held>();

  /**
   * @param mostBytes maximum total of all unfinished long headers; of finished ones, apart from {@link sureBytes} of each
   * @param onCut called with the reason for each connection that is closed
   */
  constructor(mostBytes: number, onCut: (reason: string) => void) {
    this.#mostBytes = mostBytes;
    this.#unfinished = new WeightedMap(mostBytes, (oldest) => {
      oldest.destroy();
      onCut(`unfinished headers have more than ${mostBytes} bytes`);
    });
    this.#room = new ByteBudget(mostBytes);
  }

  /** Records how many bytes of its current header or trailer a connection has sent; connections that began before may be closed. */
  set(connection: Socket, bytes: number): void {
    if (bytes <= ordinaryBytes) {
      this.delete(connection);
    } else {
      this.#unfinished.set(connection, bytes);
    }
  }

  /** Removes a connection whose header is complete, or which has closed. */
  delete(connection: Socket): void {
    this.#unfinished.delete(connection);
  }

  /**
   * Counts a finished header, if it is long with what its pieces take, until it is forgotten and every {@link use} has
   * ended.
   *
   * @throws TooManyRequests
   */
  hold(request: IncomingMessage): void {
    const { socket } = request;
    const bytes = lengthOf(request);
    if (bytes <= ordinaryBytes || this.#held.has(socket)) {
      return; // An upload may be parsed again.
    }
    if (bytes > this.#room.share(sureBytes, this.#mostBytes)) {
      throw new TooManyRequests(`long headers of requests have at most ${this.#mostBytes} bytes together`);
    }
    this.#held.set(socket, { bytes, users: 1 });
    this.#room.take(bytes);
  }

  /** Forgets the finished header of a connection that has closed, or whose request is over. */
  forget(socket: Socket): void {
    const held = this.#held.get(socket);
    if (held !== undefined) {
      this.#held.delete(socket);
      this.#leave(held);
    }
  }

  /** Counts a request's header, if it is long, until the result is disposed of. Called before it is forgotten. */
  use({ socket }: IncomingMessage): Disposable {
    const held = this.#held.get(socket);
    if (held === undefined) {
      return { [Symbol.dispose]: () => {} };
    }
    held.users += 1;
    return { [Symbol.dispose]: () => this.#leave(held) };
  }

  #leave(held: Held): void {
    held.users -= 1;
    if (held.users === 0) {
      this.#room.give(held.bytes);
    }
  }
}
