/** Callers that are lost: their connection has ended, which says nothing of what the client behind them wants. */
import { Code, ConnectError } from "@connectrpc/connect";

/** The reason with which a call's signal aborts where its connection has ended. Made once: an error costs its stack. */
export const callerLost = new ConnectError("the caller's connection has ended", Code.Canceled);

/** Whether a call's signal has aborted because its connection has ended, and not because the caller has left. */
export function isCallerLost(reason: unknown): boolean {
  return reason === callerLost;
}
