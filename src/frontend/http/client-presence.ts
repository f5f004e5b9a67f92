/** Noticing that the client of an ordinary request is gone. */
import type { IncomingMessage, ServerResponse } from "node:http";

import type { Clock } from "../../common/clock.ts";
import { after } from "../../common/timers.ts";
import type { Exchange } from "./exchanges.ts";

/** How long the answer to a client that sends no more may still take. */
const halfCloseGraceMs = 1000;

/**
 * Aborts the exchange when the client is gone. A client that only sends no more looks the same as one that closed its
 * end altogether, so it is given a moment to read an answer that is on its way; nobody waits longer for an exit or an
 * event.
 *
 * @returns stops watching; to be called once the request is answered
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
