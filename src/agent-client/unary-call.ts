/**
 * Unary calls of an agent and of the host process by hand, in gRPC's form: one HTTP/2 stream each.
 *
 * Why not the library's own: a start or a connection on a network tells every container on it the names of its peers, one
 * call each at the same time, and most of what such a call cost this process was the library's pipeline. The host
 * process is called for each step of a container's life, at the same cost
 * (docs/adr/0091-unary-calls-of-agents-by-hand.md).
 */
import { constants, type ClientHttp2Stream, type IncomingHttpHeaders } from "node:http2";

import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";

import {
  type AnswerHeaders,
  type AnswerReader,
  requestUnary,
  type UnaryLimits,
} from "../common/unary-request.ts";
import type { AgentConnection } from "./connection.ts";
import { framed, requestHeaders } from "./grpc-request.ts";
import { errorOfReset, errorOfResponse, errorOfTrailers } from "./grpc-status.ts";
import { SingleMessage } from "./single-message.ts";

/** The longest time limit in milliseconds that gRPC's eight digits can write. */
const longestTimeoutMs = 99_999_999;

/** Connection that calls go to, and the limits that hold for all of them. */
export interface UnaryCalls {
  readonly connection: AgentConnection;
  /** Full ID; needed where the address serves several containers. */
  readonly containerId: string | undefined;
  /** The most bytes of an answer; a larger one is refused. */
  readonly readMaxBytes: number;
}

/** The unary calls of a transport made by hand, but for those with headers of their own, which are left to it. */
export function unaryByHand(transport: Transport, calls: UnaryCalls): Transport["unary"] {
  return async (method, signal, timeoutMs, header, input, contextValues) =>
    header === undefined
      ? {
          stream: false,
          service: method.parent,
          method,
          header: new Headers(),
          trailer: new Headers(),
          message: await callUnary(calls, method, input, { signal, timeoutMs }),
        }
      : await transport.unary(method, signal, timeoutMs, header, input, contextValues);
}

/**
 * Makes one call.
 *
 * @throws ConnectError what the peer answers; `Unavailable`: it cannot be reached, or the answer was cut;
 *   `DeadlineExceeded`; `Canceled` or the signal's reason; `ResourceExhausted`: the answer is too large
 */
export async function callUnary<I extends DescMessage, O extends DescMessage>(
  calls: UnaryCalls,
  method: DescMethodUnary<I, O>,
  input: MessageInitShape<I>,
  limits: UnaryLimits,
): Promise<MessageShape<O>> {
  const { connection, containerId } = calls;
  const path = `/${method.parent.typeName}/${method.name}`;
  const headers = requestHeaders(containerId);
  if (limits.timeoutMs !== undefined && limits.timeoutMs > 0) {
    headers["grpc-timeout"] = `${Math.min(Math.ceil(limits.timeoutMs), longestTimeoutMs)}m`;
  }
  const request = framed(toBinary(method.input, create(method.input, input)));
  const open = (): Promise<ClientHttp2Stream> => connection.request("POST", path, headers);
  const answer = await requestUnary(open, request, new GrpcAnswer(calls), limits).catch((error: unknown) => {
    throw ConnectError.from(error);
  });
  try {
    return fromBinary(method.output, answer);
  } catch (error) {
    throw ConnectError.from(error, Code.DataLoss);
  }
}

/** An answer in gRPC's form: a message, and its status in the headers behind it. */
class GrpcAnswer implements AnswerReader<Uint8Array> {
  readonly #message: SingleMessage;
  readonly #peer: string;
  #error: ConnectError | undefined;
  #isOk: boolean = false;

  constructor({ connection: { peer }, readMaxBytes }: UnaryCalls) {
    this.#message = new SingleMessage(readMaxBytes, peer);
    this.#peer = peer;
  }

  begin(headers: AnswerHeaders): void {
    this.#error ??= errorOfResponse(headers, { peer: this.#peer });
    this.takeTrailers(headers);
  }

  takeTrailers(headers: IncomingHttpHeaders): void {
    this.#error ??= errorOfTrailers(headers);
    this.#isOk ||= headers["grpc-status"] === "0";
  }

  take(chunk: Buffer): void {
    // Bytes behind a refusal are not for us to read.
    if (this.#error === undefined) {
      this.#message.push(chunk);
    }
  }

  end({ rstCode = constants.NGHTTP2_NO_ERROR }: ClientHttp2Stream): Uint8Array {
    if (this.#error !== undefined) {
      throw this.#error;
    }
    if (rstCode !== constants.NGHTTP2_NO_ERROR) {
      throw errorOfReset(rstCode, this.#peer);
    }
    if (!this.#isOk) {
      throw new ConnectError(`the connection to ${this.#peer} was cut`, Code.Unavailable);
    }
    return this.#message.end();
  }
}
