/** A hijacked stream from its first byte to the client's last, whatever becomes of it. */
import type { Duplex } from "node:stream";

import type { Outcome } from "../../agent-client/agent-stream.ts";
import { messageOf } from "../../common/errors.ts";
import type { HijackContext } from "../request-context.ts";
import { abortClient, joinClient } from "./client-socket.ts";
import type { StreamLink } from "./stream-link.ts";

/** How a stream is shown to its client. */
export interface StreamToClient {
  /** Whether the client's bytes go to the process. */
  readonly stdin: boolean;
  readonly multiplexed: boolean;
  /** What has to be known before the client sees that the process ended. */
  readonly beforeEnd?: (signal: AbortSignal) => Promise<void>;
  /** Called where that could not be known in time, or the output was cut. @param exitCode as the stream has told it; undefined: it was cut */
  readonly onUnknownEnd?: (exitCode: number | undefined) => void;
  /** Whether the client hears of a failure in another answer: its stream ends without a word then. */
  readonly isToldElsewhere?: (error: unknown) => boolean;
  /** What has to be told before a client that has typed its detach keys sees that it has left. */
  readonly onDetach: () => Promise<void>;
}

/** How long the client of a cut stream is kept waiting for the backend to learn of the end. */
const cutLimitMs = 5_000;

/**
 * Copies both ways, then closes the client's connection: as usual when the process ended or the client detached, with a
 * message and abnormally when the stream was cut, so that nobody takes that for success.
 */
export async function streamToClient(
  { logger, signal }: Pick<HijackContext, "logger" | "signal">,
  socket: Duplex,
  link: StreamLink,
  { stdin, multiplexed, beforeEnd, onUnknownEnd, isToldElsewhere, onDetach }: StreamToClient,
): Promise<void> {
  let outcome: Outcome;
  try {
    outcome = await joinClient(socket, link, { stdin, signal });
  } catch (error) {
    if (isToldElsewhere?.(error) === true) {
      socket.end();
    } else if (!socket.destroyed) {
      logger.warn({ err: error }, "a stream was cut");
      // Its next request is for the exit code, and takes the absence of one for 0.
      await beforeEnd?.(AbortSignal.any([signal, AbortSignal.timeout(cutLimitMs)])).catch(() => undefined);
      onUnknownEnd?.(undefined);
      abortClient(socket, messageOf(error), multiplexed);
    }
    return;
  }
  if (outcome.kind === "exit") {
    try {
      await beforeEnd?.(signal);
    } catch (error) {
      // The output is complete, and the exit code is known here.
      logger.warn({ err: error }, "the end of a process is not known to the backend");
      onUnknownEnd?.(outcome.exitCode);
    }
  }
  if (outcome.kind === "detached") {
    await onDetach();
  }
  socket.end();
}
