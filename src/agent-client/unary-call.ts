/**
 * Unary calls of an agent by hand, in gRPC's form: one HTTP/2 stream each.
 *
 * Why not the library's own: a start or a connection on a network tells every container on it the names of its peers, one
 * call each at the same time, and most of what such a call cost this process was the library's pipeline
 * (docs/adr/0091-unary-calls-of-agents-by-hand.md).
 */
import {
  constants,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from "node:http2";

import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import type { AgentConnection } from "./connection.ts";
import { framed, requestHeaders } from "./grpc-request.ts";
import { errorOfReset, errorOfResponse, errorOfTrailers } from "./grpc-status.ts";
import { SingleMessage } from "./single-message.ts";

/** gRPC writes a time limit in at most so many digits. */
const longestTimeoutMs = 99_999_999;

/** Where calls go, and what holds for all of them. */
export interface UnaryCalls {
  readonly connection: AgentConnection;
  /** Full ID; needed where the address serves several containers. */
  readonly containerId: string | undefined;
  /** An answer above this is refused; bytes. */
  readonly readMaxBytes: number;
}

/** What ends a call early. */
export interface UnaryLimits {
  readonly signal: AbortSignal | undefined;
  /** Undefined, or not above 0: none. */
  readonly timeoutMs: number | undefined;
}

/**
 * Makes one call.
 *
 * @throws ConnectError what the agent answers; `Unavailable`: it cannot be reached, or the answer was cut;
 *   `DeadlineExceeded`; `Canceled` or the signal's reason; `ResourceExhausted`: the answer is too large
 */
export async function callUnary<I extends DescMessage, O extends DescMessage>(
  calls: UnaryCalls,
  method: DescMethodUnary<I, O>,
  input: MessageInitShape<I>,
  limits: UnaryLimits,
): Promise<MessageShape<O>> {
  const path = `/${method.parent.typeName}/${method.name}`;
  const request = framed(toBinary(method.input, create(method.input, input)));
  const answer = await new Promise<Uint8Array>((resolve, reject) => {
    new Exchange(calls, limits, { resolve, reject }).run(path, request);
  });
  try {
    return fromBinary(method.output, answer);
  } catch (error) {
    throw ConnectError.from(error, Code.DataLoss);
  }
}

/** Who waits for the answer's only message. */
interface Waiter {
  resolve(message: Uint8Array): void;
  reject(error: ConnectError): void;
}

class Exchange {
  readonly #calls: UnaryCalls;
  readonly #limits: UnaryLimits;
  readonly #waiter: Waiter;
  readonly #answer: SingleMessage;
  #error: ConnectError | undefined;
  #isOk: boolean = false;
  #isSettled: boolean = false;
  #stream: ClientHttp2Stream | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(calls: UnaryCalls, limits: UnaryLimits, waiter: Waiter) {
    this.#calls = calls;
    this.#limits = limits;
    this.#waiter = waiter;
    this.#answer = new SingleMessage(calls.readMaxBytes);
  }

  run(path: string, request: Buffer): void {
    const { signal, timeoutMs } = this.#limits;
    const headers = requestHeaders(this.#calls.containerId);
    if (timeoutMs !== undefined && timeoutMs > 0) {
      headers["grpc-timeout"] = `${Math.min(Math.ceil(timeoutMs), longestTimeoutMs)}m`;
      this.#timer = setTimeout(() => {
        this.#fail(new ConnectError("the operation timed out", Code.DeadlineExceeded));
      }, timeoutMs);
    }
    signal?.addEventListener("abort", this.#abort, { once: true });
    if (signal?.aborted === true) {
      this.#abort();
      return;
    }
    this.#calls.connection.request("POST", path, headers).then(
      (stream) => this.#send(stream, request),
      (error: unknown) => this.#fail(ConnectError.from(error)),
    );
  }

  readonly #abort = (): void => {
    this.#fail(ConnectError.from(this.#limits.signal?.reason, Code.Canceled));
  };

  #send(stream: ClientHttp2Stream, request: Buffer): void {
    // The HTTP/2 code of the reset says as much, and 'close' follows.
    stream.on("error", () => {});
    if (this.#isSettled) {
      stream.close(constants.NGHTTP2_CANCEL);
      return;
    }
    this.#stream = stream;
    stream.on("response", (headers) => this.#begin(headers));
    stream.on("data", (chunk: Buffer) => this.#receive(chunk));
    stream.on("trailers", (trailers) => this.#takeStatus(trailers));
    stream.once("end", () => this.#end());
    stream.once("close", () => this.#end());
    stream.end(request);
  }

  #begin(headers: IncomingHttpHeaders & IncomingHttpStatusHeader): void {
    this.#error ??= errorOfResponse(headers);
    this.#takeStatus(headers);
  }

  #takeStatus(headers: IncomingHttpHeaders): void {
    this.#error ??= errorOfTrailers(headers);
    this.#isOk ||= headers["grpc-status"] === "0";
  }

  #receive(chunk: Buffer): void {
    if (this.#isSettled || this.#error !== undefined) {
      return; // What follows a refusal is not for us to read.
    }
    try {
      this.#answer.push(chunk);
    } catch (error) {
      this.#fail(ConnectError.from(error));
    }
  }

  #end(): void {
    if (this.#isSettled) {
      return;
    }
    const reset = this.#stream?.rstCode ?? constants.NGHTTP2_NO_ERROR;
    if (this.#error !== undefined) {
      this.#fail(this.#error);
    } else if (reset !== constants.NGHTTP2_NO_ERROR) {
      this.#fail(errorOfReset(reset));
    } else if (!this.#isOk) {
      this.#fail(new ConnectError("the connection to the agent was cut", Code.Unavailable));
    } else {
      this.#finish();
    }
  }

  #finish(): void {
    try {
      const message = this.#answer.end();
      this.#settle();
      this.#waiter.resolve(message);
    } catch (error) {
      this.#fail(ConnectError.from(error));
    }
  }

  #fail(error: ConnectError): void {
    if (!this.#isSettled) {
      this.#settle();
      this.#stream?.close(constants.NGHTTP2_CANCEL);
      this.#waiter.reject(error);
    }
  }

  #settle(): void {
    this.#isSettled = true;
    clearTimeout(this.#timer);
    this.#limits.signal?.removeEventListener("abort", this.#abort);
  }
}
