/**
 * Unary calls by hand: one HTTP/2 stream each, on the connection of all other calls, in Connect's binary form.
 *
 * Why not the library's own: it makes a pipeline of async iterators, abort controllers and two forms of the headers for
 * every call, which is most of what a short answer of Docker's API costs (docs/adr/0090-unary-calls-by-hand.md). What a
 * call needs beyond a message each way (a time limit, headers) goes through the library.
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
  toBinary,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport, type UnaryResponse } from "@connectrpc/connect";
import { codeFromHttpStatus, errorFromJsonBytes } from "@connectrpc/connect/protocol-connect";
import type { Http2SessionManager } from "@connectrpc/connect-node";

import { plainHeaders, unaryContentType, wholeBody } from "../common/http2-messages.ts";

const requestHeaders = { "content-type": unaryContentType, "connect-protocol-version": "1" } as const;

/** What the server said, whole. */
interface Answer {
  readonly headers: IncomingHttpHeaders & IncomingHttpStatusHeader;
  readonly body: Uint8Array;
}

/**
 * A transport whose unary calls take the short way over the session, and whose others are the given transport's.
 *
 * @param explain what to throw for a call that failed on its way
 */
export function withShortUnaryCalls(
  transport: Transport,
  session: Http2SessionManager,
  explain: (error: unknown) => unknown,
): Transport {
  return {
    stream: (...call) => transport.stream(...call),
    unary: async (method, signal, timeoutMs, header, input, contextValues) =>
      timeoutMs === undefined && header === undefined
        ? await call(session, explain, method, signal, input)
        : await transport.unary(method, signal, timeoutMs, header, input, contextValues),
  };
}

async function call<I extends DescMessage, O extends DescMessage>(
  session: Http2SessionManager,
  explain: (error: unknown) => unknown,
  method: DescMethodUnary<I, O>,
  signal: AbortSignal | undefined,
  input: MessageInitShape<I>,
): Promise<UnaryResponse<I, O>> {
  const request = toBinary(method.input, create(method.input, input));
  const answer = await exchange(session, `/${method.parent.typeName}/${method.name}`, request, signal).catch(
    (error: unknown) => {
      throw signal?.aborted === true ? ConnectError.from(signal.reason, Code.Canceled) : explain(error);
    },
  );
  const { headers, body } = answer;
  if (headers[":status"] !== 200 || headers["content-type"] !== unaryContentType) {
    throw refusal(answer);
  }
  return {
    stream: false,
    service: method.parent,
    method,
    header: new Headers(),
    trailer: new Headers(),
    message: fromBinary(method.output, body),
  };
}

/** @throws what the session throws, or a ConnectError `Unavailable` where the answer was cut */
async function exchange(
  session: Http2SessionManager,
  path: string,
  request: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<Answer> {
  signal?.throwIfAborted();
  const headers = { ...requestHeaders, "content-length": String(request.byteLength) };
  const stream = await session.request("POST", path, headers, {});
  const leave = (): void => stream.close(constants.NGHTTP2_CANCEL);
  signal?.addEventListener("abort", leave, { once: true });
  if (signal?.aborted === true) {
    leave();
  }
  try {
    return await answerOf(stream, request);
  } finally {
    signal?.removeEventListener("abort", leave);
  }
}

function answerOf(stream: ClientHttp2Stream, request: Uint8Array): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let headers: Answer["headers"] = {};
    const chunks: Buffer[] = [];
    let cause: unknown;
    let isAnswered = false;
    stream.on("response", (received) => {
      headers = received;
    });
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      const body = wholeBody(stream, headers, chunks);
      if (body !== undefined && headers[":status"] !== undefined) {
        isAnswered = true;
        resolve({ headers, body });
      }
    });
    stream.on("error", (error) => {
      cause = error;
    });
    stream.on("close", () => {
      if (!isAnswered) {
        const message = "the backend was lost before it answered";
        reject(new ConnectError(message, Code.Unavailable, undefined, undefined, cause));
      }
    });
    stream.end(request);
  });
}

/** What an answer that is no success says; something on the way may have given it that knows nothing of Connect. */
function refusal({ headers, body }: Answer): ConnectError {
  const status = headers[":status"] ?? 0;
  const fallback = new ConnectError(
    `the backend answered with HTTP status ${status}`,
    codeFromHttpStatus(status),
  );
  try {
    return errorFromJsonBytes(body, plainHeaders(headers), fallback);
  } catch {
    return fallback;
  }
}
