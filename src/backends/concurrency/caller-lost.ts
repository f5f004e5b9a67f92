/** Callers that are lost: they end, or their connection has ended, which says nothing of what the client behind them wants. */
import { Code, ConnectError } from "@connectrpc/connect";

/** The reason with which a call's signal aborts where its caller is lost. Made once: an error costs its stack. */
export const callerLost = new ConnectError("the caller is lost", Code.Canceled);

/** Whether a call's signal has aborted because the caller is lost, and not because it has left. */
export function isCallerLost(reason: unknown): boolean {
  return reason === callerLost;
}
