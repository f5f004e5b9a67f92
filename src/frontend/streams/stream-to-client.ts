/** A hijacked stream from its first byte to the client's last, whatever becomes of it. */
import type { Duplex } from "node:stream";

import type { Outcome } from "../../agent-client/agent-stream.ts";
import { messageOf } from "../../common/errors.ts";
import type { HijackContext } from "../request-context.ts";
import { abortClient, joinClient } from "./client-socket.ts";
import type { ExecEnd } from "./exec-ends.ts";
import type { StreamLink } from "./stream-link.ts";

/** How a stream is shown to its client. */
export interface StreamToClient {
  /** True if the client's bytes go to the process. */
  readonly stdin: boolean;
  readonly multiplexed: boolean;
  /** The process, where its end is told in another answer. */
  readonly processEnd?: Pick<ExecEnd, "exited" | "cut">;
  /** True if the client hears of a failure in another answer: its stream ends without a word then. */
  readonly isToldElsewhere?: (error: unknown) => boolean;
  /** Tells what has to be known before a client that has typed its detach keys sees that it has left. */
  readonly onDetach: () => Promise<void>;
}

/**
 * Copies both ways, then closes the client's connection: as usual when the process ended or the client detached, with a
 * message and abnormally when the stream was cut, so that nobody takes that for success.
 */
export async function streamToClient(
  { logger, signal }: Pick<HijackContext, "logger" | "signal">,
  socket: Duplex,
  link: StreamLink,
  { stdin, multiplexed, processEnd, isToldElsewhere, onDetach }: StreamToClient,
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
      await processEnd?.cut();
      abortClient(socket, messageOf(error), multiplexed);
    }
    return;
  }
  if (outcome.kind === "exit") {
    await processEnd?.exited(outcome.exitCode);
  }
  if (outcome.kind === "detached") {
    await onDetach();
  }
  socket.end();
}
