/**
 * One request of a connection at a time, as in Go's server: the next one is not read before the current one is answered
 * and the client has read the answer. Chunked bodies are parsed in small steps, and their chunks joined.
 *
 * Why: Node's server parses and dispatches all that it has read, and keeps reading; a client that pipelines without
 * reading answers would make it hold thousands of requests and answers. A chunk of one byte takes 400 bytes of memory,
 * and 64 KiB of such chunks the event loop for 30 ms.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";

import { packWaiting } from "../../common/pack-waiting.ts";
import { interceptParser } from "../../common/request-parser.ts";
import { Turns } from "../../common/turns.ts";
import { LineFeeds } from "./line-feeds.ts";
import { hasLongHeader, type LongHeaders } from "./long-headers.ts";

/** The end of a request's header, and of a chunked body. */
const blankLine = "\r\n\r\n";

/**
 * Maximum milliseconds for which bytes after a request may stay unread. Behind unread bytes a client's leaving goes
 * unnoticed, and its request would be kept for as long as a container runs.
 */
const aheadLimitMs = 60_000;

/** Bytes of a chunked body that are parsed at once: of its beginning, and then. */
const [firstStepBytes, stepBytes] = [512, 4096];

/** Bytes of a chunk of one byte: its length, its content and two line ends. */
const smallestChunk = 6;

/** The most that one connection counts: a body that is dropped has no content either, and may go on for ever. */
const longestTrailer = 1024 ** 2;

/**
 * Pieces of chunked bodies that are parsed in a turn of the event loop, some milliseconds of work, of all connections: the
 * parser's work grows with the number of chunks, and a chunk may have one byte. Bodies in small chunks keep no other waiting.
 */
const bodyTurns = { ordinary: new Turns(500), fine: new Turns(500) } as const;

/** Pieces after which a body lets others that wait go first: 64 KiB in large chunks have no more. */
const piecesAtOnce = 32;

/** Bytes that the pieces of an ordinary body have on average, at least, not counting the first few: a tar of small files has more. */
const leastPiece = 128;
const firstPieces = 8;

/** The most requests of a connection that count as its beginning, and the milliseconds for which they do: those of a command. */
const [firstRequests, firstMs] = [8, 1_000];

/** Milliseconds after an answer: who asks again later, as a monitor does, asks now and then. */
const pauseMs = 1_000;

/** Bytes of a header that are parsed at once: the rest of one that is refused is not parsed. */
const headerStepBytes = 16 * 1024;

/**
 * Requests that begin in a turn of the event loop, of all connections: the first ones of each, those after a pause, and
 * further ones. Whoever asks without a pause, by however many connections, keeps a client that has just connected, or asks
 * now and then, waiting for some turns only. First ones are the most, as each command of a CLI has a connection of its own; a
 * connection has them only while it is new: thousands may be open and ask at once, but a turn accepts just one.
 */
const requestTurns = { first: new Turns(16), paused: new Turns(4), further: new Turns(4) } as const;

/** The pacing of one connection. Created in the server's `connection` event, after Node's own listeners. */
export class RequestPace {
  readonly #socket: Socket;
  readonly #longHeaders: LongHeaders;
  readonly #parse: ((chunk: Buffer) => void) | undefined;
  #request: IncomingMessage | undefined;
  #response: ServerResponse | undefined;
  /** Remaining bytes of the body by Content-Length; undefined for a chunked one. */
  #bodyLeft: number | undefined = 0;
  /** The last parsed bytes, which may hold the beginning of a blank line. */
  #tail: Buffer = Buffer.alloc(0);
  /** Bytes that were read but not parsed yet. */
  #rest: Buffer = Buffer.alloc(0);
  /** Parsed content of a chunked body that its request does not have yet. */
  #content: Buffer[] = [];
  /** Adds to the request's content, if its body is chunked. */
  #push: ((content: Buffer | null) => boolean) | undefined;
  #awaitsTurn = false;
  /** Bytes of the header that has begun. */
  #headerBytes = 0;
  #requests = 0;
  readonly #connectedMs = performance.now();
  #answeredMs = 0;
  /** Those of the request that has come and not begun. */
  #turns: Turns | undefined;
  /** Those of the chunked body that were parsed, and their pieces. */
  #bodyBytes = 0;
  #bodyPieces = 0;
  /** Bytes of a chunked body since its last content: the parser keeps a trailer until its end. */
  #trailerBytes = 0;
  readonly #lines = new LineFeeds();
  #isOver = false;
  #cut: NodeJS.Timeout | undefined;

  /**
   * @param mayHijack whether to leave everything after a request's header unparsed
   * @param longHeaders receives the sizes of unfinished headers
   */
  constructor(socket: Socket, mayHijack: (request: IncomingMessage) => boolean, longHeaders: LongHeaders) {
    this.#socket = socket;
    this.#longHeaders = longHeaders;
    const data = (chunk: Buffer): void => this.#take(chunk);
    this.#parse = interceptParser(socket, {
      data,
      header: (request) => {
        this.#request = request;
        this.#response = undefined;
        this.#headerBytes = 0;
        this.#lines.reset();
        longHeaders.delete(socket);
        const length = request.headers["content-length"];
        const isChunked = request.headers["transfer-encoding"] !== undefined;
        this.#bodyLeft = isChunked ? undefined : Number(length ?? 0);
        this.#bodyBytes = 0;
        this.#bodyPieces = 0;
        if (this.#bodyLeft !== 0) {
          packWaiting(request);
        }
        if (isChunked) {
          this.#joinContent(request);
        }
        const isHijacked = mayHijack(request);
        if (isHijacked) {
          this.#isOver = true;
          socket.removeListener("data", data);
        }
        return isHijacked;
      },
      dispatched: () => {
        // No response: the request was hijacked, or Node refused it and then closes the connection.
        this.#isOver ||= this.#response === undefined;
      },
    });
    socket.once("close", () => {
      clearTimeout(this.#cut);
      longHeaders.delete(socket);
      longHeaders.forget(socket);
    });
  }

  /** Registers the response to the request that was just read. */
  began(response: ServerResponse): void {
    this.#response = response;
    if (hasLongHeader(response.req)) {
      response.shouldKeepAlive = false; // Node keeps the header until the body ends, and a client may never end it.
    }
    response.once("close", () => {
      this.#answeredMs = performance.now();
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
    if (this.#awaitsTurn) {
      this.#socket.pause();
      this.#socket.unshift(chunk);
      return;
    }
    let taken = 0;
    for (let rest = chunk; rest.length > 0; rest = this.#rest) {
      if (this.#isOver || this.#socket.destroyed) {
        this.#rest = Buffer.alloc(0); // Nobody would answer it.
        return;
      }
      if (this.#isBetweenRequests()) {
        this.#rest = withoutLineEnds(rest);
        if (this.#rest.length < rest.length) {
          continue;
        }
      }
      if (this.#isUnanswered()) {
        this.#hold(rest);
        return;
      }
      const isChunked = this.#isInBody() && this.#bodyLeft === undefined;
      const turns = isChunked ? bodyTurns[this.#grain()] : this.#turnsOfRequest();
      if (turns?.isOver === true || (taken >= piecesAtOnce && turns?.isAwaited === true)) {
        this.#awaitTurn(rest, turns);
        return;
      }
      if (turns !== undefined && !isChunked) {
        turns.count(1);
        this.#requests += 1;
        this.#turns = undefined;
      }
      const next = rest.subarray(0, this.#stepBytes);
      const lines = this.#isInBody() ? undefined : this.#lines.take(next);
      const end = lines?.length ?? this.#sliceLength(next);
      const slice = lines?.whole ?? rest.subarray(0, end);
      this.#rest = rest.subarray(end);
      if (!this.#isInBody()) {
        this.#headerBytes += slice.length;
        this.#longHeaders.set(this.#socket, this.#headerBytes);
      }
      const before = this.#content.length;
      this.#parse?.(slice);
      if (isChunked) {
        this.#noteTrailer(this.#content.length > before || !this.#isInBody() ? 0 : slice.length);
        const pieces = this.#piecesOf(slice, before);
        this.#bodyBytes += slice.length;
        this.#bodyPieces += pieces;
        turns?.count(pieces);
        taken += pieces;
      }
      this.#forgetAnswered(); // Its body may end after its answer.
    }
    this.#rest = Buffer.alloc(0); // An empty view keeps all 64 KiB that were received.
    this.#passContent();
  }

  /** @param bytes parsed without any content; 0: there was some, or the body has ended */
  #noteTrailer(bytes: number): void {
    this.#trailerBytes = bytes === 0 ? 0 : Math.min(this.#trailerBytes + bytes, longestTrailer);
    this.#longHeaders.set(this.#socket, this.#trailerBytes);
  }

  #isInBody(): boolean {
    return this.#request?.complete === false;
  }

  #isBetweenRequests(): boolean {
    return !this.#isInBody() && this.#headerBytes === 0;
  }

  /** The turns in which a request may begin; undefined within one. */
  #turnsOfRequest(): Turns | undefined {
    if (!this.#isBetweenRequests()) {
      return undefined;
    }
    this.#turns ??= requestTurns[this.#frequency()];
    return this.#turns;
  }

  #frequency(): keyof typeof requestTurns {
    const now = performance.now();
    if (this.#requests < firstRequests && now - this.#connectedMs < firstMs) {
      return "first";
    }
    return now - this.#answeredMs > pauseMs ? "paused" : "further";
  }

  /** The most bytes that are parsed at once; undefined: all of them. */
  get #stepBytes(): number | undefined {
    if (!this.#isInBody()) {
      return headerStepBytes;
    }
    if (this.#bodyLeft !== undefined) {
      return undefined;
    }
    return this.#bodyPieces === 0 ? firstStepBytes : stepBytes;
  }

  #grain(): keyof typeof bodyTurns {
    return this.#bodyBytes < leastPiece * (this.#bodyPieces - firstPieces) ? "fine" : "ordinary";
  }

  /** The number of pieces that a slice had, besides those that were there before. */
  #piecesOf(slice: Buffer, before: number): number {
    // Node drops the rest of a body after the answer.
    const isDropped = this.#response?.writableFinished === true;
    return 1 + Math.max(isDropped ? slice.length / smallestChunk : 0, this.#content.length - before);
  }

  /** Parses the rest in a later turn. */
  #awaitTurn(rest: Buffer, turns: Turns): void {
    this.#passContent();
    this.#rest = Buffer.alloc(0);
    this.#socket.pause();
    this.#awaitsTurn = true;
    turns.wait(() => {
      this.#awaitsTurn = false;
      if (this.#socket.destroyed) {
        return; // Node has given its parser to another connection, or will.
      }
      const request = this.#isInBody() ? this.#request : undefined;
      if (request !== undefined && request.readableLength >= request.readableHighWaterMark) {
        this.#socket.unshift(rest); // Reading the request resumes the connection.
        return;
      }
      this.#socket.resume();
      this.#take(rest);
    });
  }

  /** Joins what a step adds to a request's content, which Node adds chunk by chunk. */
  #joinContent(request: IncomingMessage): void {
    const push = request.push.bind(request);
    this.#push = push;
    request.push = (chunk: Buffer | null) => {
      if (chunk !== null) {
        this.#content.push(chunk);
        return true;
      }
      this.#passContent();
      return push(null);
    };
  }

  #passContent(): void {
    if (this.#content.length === 0) {
      return;
    }
    const content = Buffer.concat(this.#content);
    this.#content = [];
    if (this.#push?.(content) === false) {
      this.#socket.pause();
    }
  }

  /** True if a request was read in full and its answer has not begun. */
  #isUnanswered(): boolean {
    return this.#request?.complete === true && this.#response?.closed === false;
  }

  /** The number of bytes that can be parsed without reaching into the next request. */
  #sliceLength(bytes: Buffer): number {
    if (this.#isInBody() && this.#bodyLeft !== undefined) {
      const length = Math.min(this.#bodyLeft, bytes.length);
      this.#bodyLeft -= length;
      this.#tail = Buffer.alloc(0);
      return length === 0 ? bytes.length : length; // Only 0 if the parser understands the length differently.
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

  /** Lets go of a request that is over, with its header: its connection may be idle for days. */
  #forgetAnswered(): void {
    if (this.#request?.complete === true && this.#response?.closed === true) {
      this.#request = undefined;
      this.#push = undefined;
      this.#response = undefined;
      this.#longHeaders.forget(this.#socket);
    }
  }

  #goOn(): void {
    this.#forgetAnswered();
    if (this.#cut !== undefined && !this.#isUnanswered()) {
      clearTimeout(this.#cut);
      this.#cut = undefined;
      this.#socket.resume();
    }
  }
}

/** Without the line ends at the beginning, which some clients send after a body. */
function withoutLineEnds(bytes: Buffer): Buffer {
  let start = 0;
  while (bytes[start] === 0x0d || bytes[start] === 0x0a) {
    start += 1;
  }
  return bytes.subarray(start);
}
