/** A hijacked stream from its first byte to the client's last, whatever becomes of it. */
import type { Duplex } from "node:stream";

import type { Outcome } from "../../agent-client/agent-stream.ts";
import { isErrorKind, messageOf } from "../../common/errors.ts";
import type { FrontendServices, HijackContext } from "../request-context.ts";
import { abortClient, inBandText, joinClient } from "./client-socket.ts";
import type { ExecEnd } from "./exec-ends.ts";
import { endOfHanded, OutOfSight } from "./handed-on.ts";
import type { StreamLink } from "./stream-link.ts";

/** How a stream is shown to its client. */
export interface StreamToClient {
  /** True if the client's bytes go to the process. */
  readonly stdin: boolean;
  readonly multiplexed: boolean;
  /** Resolves once something may follow the answer's header; who takes the connection sees to that by itself. */
  readonly headerLead?: () => Promise<void>;
  /** The process, where its end is told in another answer. */
  readonly processEnd?: Pick<ExecEnd, "exited" | "cut">;
  /** True if the client hears of a failure in another answer: its stream ends without a word then. */
  readonly isToldElsewhere?: (error: unknown) => boolean;
  /** Tells what has to be known before a client that has typed its detach keys sees that it has left. */
  readonly onDetach: () => Promise<void>;
}

/**
 * Copies both ways, then closes the client's connection: as usual when the process ended or the client detached, with a
 * message and abnormally when the stream was cut, so that nobody takes that for success. Where the agent takes the client's
 * connection, this is over as soon as it has.
 */
export async function streamToClient(
  context: Pick<HijackContext, "logger" | "signal"> & {
    readonly services: Pick<FrontendServices, "handOver">;
  },
  socket: Duplex,
  link: StreamLink,
  shown: StreamToClient,
): Promise<void> {
  const { stdin, processEnd, onDetach } = shown;
  const { signal } = context;
  const { handOver } = context.services;
  let outcome: Outcome;
  try {
    let early: Buffer | undefined;
    if (link.offer !== undefined && handOver !== undefined) {
      early = await handOver.give(socket, link.offer, link.handed);
      if (early === undefined) {
        context.logger.debug("a stream is handed on");
        void followHanded(context, socket, link, link.offer.socket, shown);
        return;
      }
      link.keep();
    }
    await shown.headerLead?.();
    outcome = await joinClient(socket, link, { stdin, signal, early });
  } catch (error) {
    await cut(context, socket, error, shown);
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

async function cut(
  { logger }: Pick<HijackContext, "logger">,
  socket: Duplex,
  error: unknown,
  { multiplexed, headerLead, processEnd, isToldElsewhere }: StreamToClient,
): Promise<void> {
  if (isToldElsewhere?.(error) === true) {
    socket.end();
  } else if (!socket.destroyed) {
    logger.warn({ err: error }, "a stream was cut");
    // Its next request is for the exit code, and takes the absence of one for 0.
    await processEnd?.cut();
    await headerLead?.();
    abortClient(socket, inBandText(`${messageOf(error)}\r\n`, multiplexed, "stderr"));
  }
}

/**
 * Follows a stream whose connection the agent has, because the agent's death would look like the end: the copy
 * of the connection that is held here is closed once the agent has said how it ended. While an agent lives nothing is
 * written: it may have more for its client, though its word does not come here any more.
 */
async function followHanded(
  context: Pick<HijackContext, "logger">,
  socket: Duplex,
  link: StreamLink,
  offeredAt: string,
  shown: StreamToClient,
): Promise<void> {
  try {
    const ended = link.ended.then((outcome) => ({ ...outcome, ...link.carried }));
    const outcome = await endOfHanded(context.logger, "a stream", offeredAt, ended);
    if (outcome.kind === "exit") {
      await shown.processEnd?.exited(outcome.exitCode);
    }
  } catch (error) {
    if (!(error instanceof OutOfSight)) {
      await cut(context, socket, error, shown);
      return;
    }
    if (!isErrorKind(error.cause, "unavailable")) {
      await shown.processEnd?.cut(); // So the agent has said; it has told its client too.
    }
  }
  socket.destroy(); // A shutdown would end the stream for the agent too, which reads what the client still sends.
}
