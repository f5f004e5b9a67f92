/** Callers that are lost: their connection has ended, which says nothing of what the client behind them wants. */
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

/** The reason with which a call's signal aborts where its caller is lost. Made once: an error costs its stack. */
export const callerLost = new ConnectError("the caller is lost", Code.Canceled);

/** Whether a call's signal has aborted because the caller is lost, and not because it has left. */
export function isCallerLost(reason: unknown): boolean {
  return reason === callerLost;
}

/** The reset of a call that was passed on for a caller whose own connection has ended; one that leaves cancels. */
export const resetByLostCaller = constants.NGHTTP2_CONNECT_ERROR;

/**
 * Tells of a call that was reset whether its connection has ended. Not at once: one that ends resets its streams first.
 *
 * @param session as the call's stream had it when it began
 */
export function onceKnown(session: Http2Session | undefined, tell: (hasEnded: boolean) => void): void {
  setImmediate(() => tell(session === undefined || session.closed || session.destroyed));
}

/** A call's stream, and its connection, which a stream that is over does not tell. */
interface Way {
  readonly stream: ServerHttp2Stream;
  readonly session: Http2Session | undefined;
}

const wayOfCall = createContextKey<Way | undefined>(undefined, { description: "way" });

/** How a call came, for {@link tellingLostCallers}. */
export function wayOf(request: IncomingMessage | Http2ServerRequest): ContextValues {
  const values = createContextValues();
  return "stream" in request
    ? values.set(wayOfCall, { stream: request.stream, session: request.stream.session })
    : values;
}

/** Has the signals of calls tell callers that are lost from those that have left. */
export const tellingLostCallers: Interceptor = (next) => (request) => {
  const way = request.contextValues.get(wayOfCall);
  if (way === undefined) {
    return next(request);
  }
  const { stream, session } = way;
  const call = new AbortController();
  onAbort(request.signal, () =>
    onceKnown(session, (hasEnded) => {
      const isLost = hasEnded || stream.rstCode === resetByLostCaller;
      call.abort(isLost ? callerLost : request.signal.reason);
    }),
  );
  return next({ ...request, signal: call.signal });
};
