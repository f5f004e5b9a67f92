/**
 * One request of a connection at a time, as in Go's server: the next one is not read before the current one is answered
 * and the client has read the answer.
 *
 * Why: Node's server parses and dispatches all that it has read, and keeps reading; a client that pipelines without
 * reading answers would make it hold thousands of requests and answers.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";

import { interceptParser } from "./request-parser.ts";
import type { UnfinishedHeaders } from "./unfinished-headers.ts";

/** The end of a request's header, and of a chunked body. */
const blankLine = "\r\n\r\n";

/**
 * Maximum milliseconds for which bytes after a request may stay unread. Behind unread bytes a client's leaving goes
 * unnoticed, and its request would be kept for as long as a container runs.
 */
const aheadLimitMs = 60_000;

/** The pacing of one connection. Created in the server's `connection` event, after Node's own listeners. */
export class RequestPace {
  readonly #socket: Socket;
  readonly #unfinished: UnfinishedHeaders;
  readonly #parse: ((chunk: Buffer) => void) | undefined;
  #request: IncomingMessage | undefined;
  #response: ServerResponse | undefined;
  /** Remaining bytes of the body by Content-Length; undefined for a chunked one. */
  #bodyLeft: number | undefined = 0;
  /** The last parsed bytes, which may hold the beginning of a blank line. */
  #tail: Buffer = Buffer.alloc(0);
  /** Bytes that were read but not parsed yet. */
  #rest: Buffer = Buffer.alloc(0);
  /** Bytes of the header that has begun. */
  #headerBytes = 0;
  #isOver = false;
  #cut: NodeJS.Timeout | undefined;

  /**
   * @param mayHijack true if everything behind a request's header is to be left unparsed
   * @param unfinished told of the headers
   */
  constructor(
    socket: Socket,
    mayHijack: (request: IncomingMessage) => boolean,
    unfinished: UnfinishedHeaders,
  ) {
    this.#socket = socket;
    this.#unfinished = unfinished;
    const data = (chunk: Buffer): void => this.#take(chunk);
    this.#parse = interceptParser(socket, {
      data,
      header: (request) => {
        this.#request = request;
        this.#response = undefined;
        this.#headerBytes = 0;
        unfinished.delete(socket);
        const length = request.headers["content-length"];
        const isChunked = request.headers["transfer-encoding"] !== undefined;
        this.#bodyLeft = isChunked ? undefined : Number(length ?? 0);
        const isHijacked = mayHijack(request);
        if (isHijacked) {
          this.#isOver = true;
          socket.removeListener("data", data);
        }
        return isHijacked;
      },
      dispatched: () => {
        // No response: hijacked, or refused by Node, which closes the connection then.
        this.#isOver ||= this.#response === undefined;
      },
    });
    socket.once("close", () => {
      clearTimeout(this.#cut);
      unfinished.delete(socket);
    });
  }

  /** Registers the response to the request that was just read. */
  began(response: ServerResponse): void {
    this.#response = response;
    response.once("close", () => {
      // Deferred, so that other connections get their turn.
      setImmediate(() => this.#goOn());
    });
  }

  /** Takes the bytes of a hijacked connection that were read but not parsed. */
  takeRest(): Buffer {
    const rest = this.#rest;
    this.#rest = Buffer.alloc(0);
    return rest;
  }

  #take(chunk: Buffer): void {
    for (let rest = chunk; rest.length > 0; rest = this.#rest) {
      if (this.#isOver) {
        this.#rest = Buffer.alloc(0); // It would be answered by nobody.
        return;
      }
      if (this.#isUnanswered() && !isBlank(rest)) {
        this.#hold(rest);
        return;
      }
      const end = this.#sliceLength(rest);
      const slice = rest.subarray(0, end);
      this.#rest = rest.subarray(end);
      if (this.#request?.complete !== false) {
        this.#headerBytes += slice.length;
        this.#unfinished.set(this.#socket, this.#headerBytes);
      }
      this.#parse?.(slice);
    }
  }

  /** True if a request was read in full and its answer has not begun. */
  #isUnanswered(): boolean {
    return this.#request?.complete === true && this.#response?.closed === false;
  }

  /** The number of bytes that can be parsed without reaching into the next request. */
  #sliceLength(bytes: Buffer): number {
    const isInBody = this.#request?.complete === false;
    if (isInBody && this.#bodyLeft !== undefined) {
      const length = Math.min(this.#bodyLeft, bytes.length);
      this.#bodyLeft -= length;
      this.#tail = Buffer.alloc(0);
      return length === 0 ? bytes.length : length; // Never 0 unless the parser sees more in the length than we do.
    }
    const before = this.#tail.length;
    const overlap = Buffer.concat([this.#tail, bytes.subarray(0, blankLine.length - 1)]).indexOf(
      blankLine,
      0,
      "latin1",
    );
    const start = overlap >= 0 ? overlap - before : bytes.indexOf(blankLine, 0, "latin1");
    const end = start + blankLine.length;
    const isCut = overlap >= 0 || start >= 0;
    this.#tail = isCut ? Buffer.alloc(0) : Buffer.concat([this.#tail, bytes.subarray(-3)]).subarray(-3);
    return isCut ? end : bytes.length;
  }

  #hold(rest: Buffer): void {
    this.#rest = Buffer.alloc(0);
    this.#socket.pause();
    this.#socket.unshift(rest);
    this.#cut ??= setTimeout(() => this.#socket.destroy(), aheadLimitMs).unref();
  }

  #goOn(): void {
    if (this.#cut !== undefined && !this.#isUnanswered()) {
      clearTimeout(this.#cut);
      this.#cut = undefined;
      this.#socket.resume();
    }
  }
}

/** Line ends between requests, which some clients send after a body; ignored. */
function isBlank(bytes: Buffer): boolean {
  return bytes.length < 8 && /^[\r\n]*$/.test(bytes.toString("latin1"));
}
