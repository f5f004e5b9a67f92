/** Detection of a client that leaves an ordinary request. */
import type { IncomingMessage, ServerResponse } from "node:http";

import type { Clock } from "../../common/clock.ts";
import { after } from "../../common/timers.ts";
import type { Exchange } from "./exchanges.ts";

/** How long the answer to a half-closed client may still take. */
const halfCloseGraceMs = 1000;

/**
 * Aborts the exchange when the client is gone. A half-close looks the same as a full close, but all connections here are
 * unix sockets, where an empty write fails after a full one, which ends the exchange at once. A half-closed client has a
 * moment to read an answer that is on its way, not long enough to wait for an exit or an event.
 *
 * @returns a function that stops watching, to be called once the request is answered
 */
export function watchClient(
  request: IncomingMessage,
  response: ServerResponse,
  { end }: Exchange,
  clock: Clock,
): () => void {
  const { socket } = request;
  let leaving: Disposable | undefined;
  const leave = (): void => end.abort(new Error("the client is gone"));
  const leaveSoon = (): void => {
    socket.write("");
    leaving = after(clock, halfCloseGraceMs, leave);
  };
  socket.once("end", leaveSoon);
  response.once("close", () => {
    if (!response.writableFinished) {
      leave();
    }
  });
  return () => {
    socket.removeListener("end", leaveSoon);
    leaving?.[Symbol.dispose]();
  };
}
