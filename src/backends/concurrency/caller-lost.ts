/** Lost callers: their connection has ended, which does not mean that the client behind them cancelled. */
import type { IncomingMessage } from "node:http";
import { constants, type Http2ServerRequest, type Http2Session, type ServerHttp2Stream } from "node:http2";

import {
  Code,
  ConnectError,
  type ContextValues,
  createContextKey,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";

import { onAbort } from "../../common/on-abort.ts";

/** Abort reason of a call's signal if its caller is lost. A constant, as creating an error costs a stack trace. */
export const callerLost = new ConnectError("the caller is lost", Code.Canceled);

/** Whether a call's signal has aborted because the caller is lost, rather than because it cancelled. */
export function isCallerLost(reason: unknown): boolean {
  return reason === callerLost;
}

/**
 * Reset code for a forwarded call whose caller's connection has ended; a caller that leaves cancels the call instead.
 */
export const resetByLostCaller = constants.NGHTTP2_CONNECT_ERROR;

/**
 * Reports whether a reset call's connection has ended. Deferred, as an ending connection resets its streams first.
 *
 * @param session the session of the call's stream when the call began
 */
export function onceKnown(session: Http2Session | undefined, report: (hasEnded: boolean) => void): void {
  setImmediate(() => report(session === undefined || session.closed || session.destroyed));
}

/** A call's stream and its connection, which a closed stream no longer has. */
interface CallStream {
  readonly stream: ServerHttp2Stream;
  readonly session: Http2Session | undefined;
}

const streamOfCall = createContextKey<CallStream | undefined>(undefined, { description: "call stream" });

/** A call's stream and connection, for {@link distinguishLostCallers}. */
export function callStreamOf(request: IncomingMessage | Http2ServerRequest): ContextValues {
  const values = createContextValues();
  return "stream" in request
    ? values.set(streamOfCall, { stream: request.stream, session: request.stream.session })
    : values;
}

/** Makes calls' signals distinguish lost callers from those that cancelled. */
export const distinguishLostCallers: Interceptor = (next) => async (request) => {
  const callStream = request.contextValues.get(streamOfCall);
  if (callStream === undefined) {
    return await next(request);
  }
  const { stream, session } = callStream;
  const call = new AbortController();
  const leaving = onAbort(request.signal, () =>
    onceKnown(session, (hasEnded) => {
      const isLost = hasEnded || stream.rstCode === resetByLostCaller;
      call.abort(isLost ? callerLost : request.signal.reason);
    }),
  );
  const response = await next({ ...request, signal: call.signal });
  if (!response.stream) {
    leaving[Symbol.dispose](); // The library aborts the signal of an answered call, too.
  }
  return response;
};
