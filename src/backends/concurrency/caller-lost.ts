/** Callers that are lost: their connection has ended, which says nothing of what the client behind them wants. */
import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest, Http2Session } from "node:http2";

import {
  Code,
  ConnectError,
  type ContextValues,
  createContextKey,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";

import { onAbort } from "../../common/on-abort.ts";

/** The reason with which a call's signal aborts where its caller is lost. Made once: an error costs its stack. */
export const callerLost = new ConnectError("the caller is lost", Code.Canceled);

/** Whether a call's signal has aborted because the caller is lost, and not because it has left. */
export function isCallerLost(reason: unknown): boolean {
  return reason === callerLost;
}

const connection = createContextKey<Http2Session | undefined>(undefined, { description: "connection" });

/** The connection of a call, for {@link tellingLostCallers}. */
export function connectionOf(request: IncomingMessage | Http2ServerRequest): ContextValues {
  return createContextValues().set(connection, "stream" in request ? request.stream.session : undefined);
}

/** Has the signals of calls tell callers that are lost from those that have left. */
export const tellingLostCallers: Interceptor = (next) => (request) => {
  const session = request.contextValues.get(connection);
  if (session === undefined) {
    return next(request);
  }
  const call = new AbortController();
  onAbort(request.signal, () => {
    call.abort(session.closed || session.destroyed ? callerLost : request.signal.reason);
  });
  return next({ ...request, signal: call.signal });
};
