/**
 * The client's end of a unary call, in any form that is one HTTP/2 request with a whole body: what is alike in calls of
 * the backend (Connect's form) and of agents (gRPC's).
 */
import {
  constants,
  type ClientHttp2Stream,
  type Http2Stream,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from "node:http2";

import { Code, ConnectError } from "@connectrpc/connect";

import { isErrorKind } from "./errors.ts";
import { onAbort } from "./on-abort.ts";

/** Headers that begin an answer. */
export type AnswerHeaders = IncomingHttpHeaders & IncomingHttpStatusHeader;

/** Reads one answer in its form. */
export interface AnswerReader<T> {
  begin(headers: AnswerHeaders): void;
  /** @throws the reason why nothing more is read: the call fails */
  take(chunk: Buffer): void;
  /** Takes the headers behind the body; absent: the form has none. */
  takeTrailers?(trailers: IncomingHttpHeaders): void;
  /**
   * The answer of a stream that has ended, or has closed without an end.
   *
   * @throws the error that the answer tells, or that it was cut
   */
  end(stream: ClientHttp2Stream): T;
}

/** Ends of a call before its answer. */
export interface UnaryLimits {
  /** A reason of the kind `unavailable` tells that this process ends, and so does the stream's reset ({@link isOfLostCaller}). */
  readonly signal: AbortSignal | undefined;
  /** Time limit in milliseconds; undefined, or not above 0: none. */
  readonly timeoutMs: number | undefined;
}

/** The reset of a call whose caller ends, which says nothing of what the client behind it wants; one that leaves cancels. */
const resetByLostCaller = constants.NGHTTP2_INTERNAL_ERROR;

/** Whether a stream was reset because its caller ends, and not because it has left. */
export function isOfLostCaller({ rstCode }: Http2Stream): boolean {
  return rstCode === resetByLostCaller;
}

/**
 * Makes one request. The limits hold while the stream is being opened too.
 *
 * @param open opens the stream with the request's headers
 * @throws what `open` and the reader throw; ConnectError `DeadlineExceeded`; `Canceled` or the signal's reason
 */
export function requestUnary<T>(
  open: () => Promise<ClientHttp2Stream>,
  body: Uint8Array,
  reader: AnswerReader<T>,
  limits: UnaryLimits,
): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  new UnaryRequest(reader, limits, { resolve, reject }).run(open, body);
  return promise;
}

interface Waiter<T> {
  resolve(answer: T): void;
  reject(error: unknown): void;
}

class UnaryRequest<T> {
  readonly #reader: AnswerReader<T>;
  readonly #limits: UnaryLimits;
  readonly #waiter: Waiter<T>;
  #isSettled: boolean = false;
  #stream: ClientHttp2Stream | undefined;
  #timer: NodeJS.Timeout | undefined;
  #listening: Disposable | undefined;

  constructor(reader: AnswerReader<T>, limits: UnaryLimits, waiter: Waiter<T>) {
    this.#reader = reader;
    this.#limits = limits;
    this.#waiter = waiter;
  }

  run(open: () => Promise<ClientHttp2Stream>, body: Uint8Array): void {
    const { signal, timeoutMs } = this.#limits;
    this.#listening = onAbort(signal, () => this.#abort(signal?.reason));
    if (this.#isSettled) {
      return;
    }
    if (timeoutMs !== undefined && timeoutMs > 0) {
      this.#timer = setTimeout(() => {
        this.#fail(new ConnectError("the operation timed out", Code.DeadlineExceeded));
      }, timeoutMs);
    }
    open().then(
      (stream) => this.#send(stream, body),
      (error: unknown) => this.#fail(error),
    );
  }

  #send(stream: ClientHttp2Stream, body: Uint8Array): void {
    // The reader finds it at the stream, and 'close' follows.
    stream.on("error", () => {});
    if (this.#isSettled) {
      stream.close(constants.NGHTTP2_CANCEL);
      return;
    }
    this.#stream = stream;
    stream.on("response", (headers) => this.#reader.begin(headers));
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
    stream.on("trailers", (trailers) => this.#reader.takeTrailers?.(trailers));
    stream.once("end", () => this.#end(stream));
    stream.once("close", () => this.#end(stream));
    stream.end(body);
  }

  #take(chunk: Buffer): void {
    if (this.#isSettled) {
      return;
    }
    try {
      this.#reader.take(chunk);
    } catch (error) {
      this.#fail(error);
    }
  }

  #end(stream: ClientHttp2Stream): void {
    if (this.#isSettled) {
      return;
    }
    try {
      const answer = this.#reader.end(stream);
      this.#settle();
      this.#waiter.resolve(answer);
    } catch (error) {
      this.#fail(error);
    }
  }

  #abort(reason: unknown): void {
    const reset = isErrorKind(reason, "unavailable") ? resetByLostCaller : constants.NGHTTP2_CANCEL;
    this.#fail(ConnectError.from(reason, Code.Canceled), reset);
  }

  #fail(error: unknown, reset: number = constants.NGHTTP2_CANCEL): void {
    if (!this.#isSettled) {
      this.#settle();
      this.#stream?.close(reset);
      this.#waiter.reject(error);
    }
  }

  #settle(): void {
    this.#isSettled = true;
    clearTimeout(this.#timer);
    this.#listening?.[Symbol.dispose]();
  }
}
