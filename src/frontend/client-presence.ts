/** Noticing that the client of an ordinary request is gone. */
import type { IncomingMessage, ServerResponse } from "node:http";

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
): () => void {
  const { socket } = request;
  let timer: NodeJS.Timeout | undefined;
  const leave = (): void => end.abort(new Error("the client is gone"));
  const leaveSoon = (): void => {
    timer = setTimeout(leave, halfCloseGraceMs);
  };
  socket.once("end", leaveSoon);
  response.once("close", () => {
    if (!response.writableFinished) {
      leave();
    }
  });
  return () => {
    socket.removeListener("end", leaveSoon);
    clearTimeout(timer);
  };
}
