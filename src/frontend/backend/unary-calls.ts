/**
 * Unary calls by hand: one HTTP/2 stream each, on the connection of all other calls, in Connect's binary
 * form.
 *
 * Why not the library's own: it makes a pipeline of async iterators, abort controllers and two forms of the
 * headers for every call, which is most of what a short answer of Docker's API costs
 * (docs/adr/0090-unary-calls-by-hand.md). A call that needs more than a message each way (a time limit,
 * headers) goes through the library.
 */
import type { ClientHttp2Stream } from "node:http2";
import { setTimeout } from "node:timers/promises";

import {
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextKey,
  type Transport,
  type UnaryResponse,
} from "@connectrpc/connect";
import { codeFromHttpStatus, errorFromJsonBytes } from "@connectrpc/connect/protocol-connect";
import type { Http2SessionManager } from "@connectrpc/connect-node";

import { plainHeaders, unaryContentType, wholeBody } from "../../common/http2-messages.ts";
import { requestIdHeaders } from "../../common/request-id.ts";
import { type AnswerHeaders, type AnswerReader, requestUnary } from "../../common/unary-request.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { encodeMessage } from "../bodies/encoded-fields.ts";

const requestHeaders = { "content-type": unaryContentType, "connect-protocol-version": "1" } as const;

/** How long a backend may be away, in all, before a request is not made again; it waits as long before it undoes a start. */
const awayLimitMs = 10_000;
const awayPauseMs = 100;
const healthPath = `/${Health.typeName}/${Health.method.check.name}`;

const noSideEffects = MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;

/** Whether a call with a token may still be made again after its answer was lost; asked each time. */
export const mayAskAgain = createContextKey((): boolean => true, { description: "mayAskAgain" });

/** The connection ended before the answer was whole; whether the call was done nobody knows. */
export class LostBackend extends ConnectError {
  constructor(cause: unknown) {
    super("the backend was lost before it answered", Code.Unavailable, undefined, undefined, cause);
  }
}

/** The server's answer, whole. */
interface Answer {
  readonly headers: AnswerHeaders;
  readonly body: Uint8Array;
}

/**
 * A transport that makes unary calls the short way over the session, and leaves the others to the given
 * transport.
 *
 * @param explain the error to throw for a call that failed on its way
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
        ? await call(session, explain, { method, signal, input, contextValues })
        : await transport.unary(method, signal, timeoutMs, header, input, contextValues),
  };
}

/** A call, as a transport gets it. */
interface Call<I extends DescMessage, O extends DescMessage> {
  readonly method: DescMethodUnary<I, O>;
  readonly signal: AbortSignal | undefined;
  readonly input: MessageInitShape<I>;
  readonly contextValues: ContextValues | undefined;
}

async function call<I extends DescMessage, O extends DescMessage>(
  session: Http2SessionManager,
  explain: (error: unknown) => unknown,
  { method, signal, input, contextValues }: Call<I, O>,
): Promise<UnaryResponse<I, O>> {
  const path = `/${method.parent.typeName}/${method.name}`;
  const request = encodeMessage(method.input, input);
  const open = (): Promise<ClientHttp2Stream> => {
    const length = { "content-length": String(request.byteLength) };
    return session.request("POST", path, { ...requestHeaders, ...requestIdHeaders(), ...length }, {});
  };
  const ask = (): Promise<Answer> =>
    requestUnary(open, request, new ConnectAnswer(), { signal, timeoutMs: undefined });
  const answer = await ask()
    .catch(async (error: unknown) => {
      // A backend that was killed is started again: what changes nothing is asked of the next one.
      if (!(error instanceof LostBackend)) {
        throw error;
      }
      if (method.idempotency === noSideEffects) {
        return await ask();
      }
      if (!hasToken(input)) {
        throw error;
      }
      return await askAgain(session, ask, error, signal, contextValues?.get(mayAskAgain));
    })
    .catch((error: unknown) => {
      throw signal?.aborted === true ? ConnectError.from(signal.reason, Code.Canceled) : explain(error);
    });
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

/** Whether a request may be made again: what comes twice with one token is done once. */
function hasToken(input: object): boolean {
  return "clientToken" in input && input.clientToken !== "";
}

/**
 * Asks again once the backend answers, after a pause each time. It is a call without side effects that finds that out: a request on a connection that
 * nobody has accepted yet would be read by the next backend even after this process has given up.
 *
 * @throws the last loss, where the backend was away for ten seconds in all, or it may not be asked again
 */
async function askAgain(
  session: Http2SessionManager,
  ask: () => Promise<Answer>,
  lost: LostBackend,
  signal: AbortSignal | undefined,
  mayAsk = (): boolean => true,
): Promise<Answer> {
  let leftMs = awayLimitMs;
  for (let failure = lost; ; ) {
    const from = performance.now();
    do {
      if (performance.now() - from >= leftMs || signal?.aborted === true) {
        throw failure;
      }
      await setTimeout(awayPauseMs);
    } while (!(await isThere(session, leftMs - (performance.now() - from), signal)));
    if (!mayAsk()) {
      throw failure;
    }
    leftMs -= performance.now() - from;
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof LostBackend)) {
        throw error;
      }
      failure = error;
    }
  }
}

/** Whether the backend answers within a time. */
async function isThere(
  session: Http2SessionManager,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const request = new Uint8Array();
  const headers = { ...requestHeaders, "content-length": "0" };
  const open = () => session.request("POST", healthPath, headers, {});
  try {
    await requestUnary(open, request, new ConnectAnswer(), { signal, timeoutMs: Math.max(timeoutMs, 1) });
    return true;
  } catch {
    return false;
  }
}

/** An answer in Connect's form: headers and one body, whole where it is as long as they say. */
class ConnectAnswer implements AnswerReader<Answer> {
  readonly #chunks: Buffer[] = [];
  #headers: AnswerHeaders = {};

  begin(headers: AnswerHeaders): void {
    this.#headers = headers;
  }

  take(chunk: Buffer): void {
    this.#chunks.push(chunk);
  }

  end(stream: ClientHttp2Stream): Answer {
    const headers = this.#headers;
    const body = wholeBody(stream, headers, this.#chunks);
    if (body === undefined || headers[":status"] === undefined) {
      throw new LostBackend(stream.errored ?? undefined);
    }
    return { headers, body };
  }
}

/** The error that a refusal tells; a proxy that knows nothing of Connect may have given it. */
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
