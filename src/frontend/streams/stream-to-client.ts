/** A hijacked stream, from its first byte to the client's last, whatever its outcome. */
import type { Duplex } from "node:stream";

import type { Outcome } from "../../agent-client/agent-stream.ts";
import { isErrorKind, messageOf } from "../../common/errors.ts";
import type { FrontendServices, HijackContext } from "../request-context.ts";
import { abortClient, inBandText, joinClient } from "./client-socket.ts";
import { endOfHanded, OutOfSight } from "./handed-on.ts";
import type { StreamLink } from "./stream-link.ts";

/** How a stream is presented to its client. */
export interface StreamToClient {
  /** True if the client's input goes to the process. */
  readonly stdin: boolean;
  readonly multiplexed: boolean;
  /** Resolves once output may follow the answer's header; an agent that takes the connection waits by itself. */
  readonly headerLead?: () => Promise<void>;
  /** Called with the process's exit code before the stream ends. */
  readonly onExit?: (exitCode: number) => Promise<void>;
  /** Called before a client sees the stream cut. @returns true if its wait gives the reason */
  readonly onCut?: () => Promise<boolean>;
  /** True if another answer reports a failure to the client; its stream then ends silently. */
  readonly isReportedElsewhere?: (error: unknown) => boolean;
  /** Called before a client that has typed its detach keys sees the stream end. */
  readonly onDetach: () => Promise<void>;
}

/**
 * Copies both ways, then closes the client's connection: normally if the process ended or the client detached, else
 * with an error message and abnormally, so that a cut stream is not taken for success. Returns as soon as the agent has
 * taken the client's connection; the request then stays under way until the agent is done.
 */
export async function streamToClient(
  context: Pick<HijackContext, "keepTurn" | "logger" | "signal"> & {
    readonly services: Pick<FrontendServices, "handOver">;
  },
  socket: Duplex,
  link: StreamLink,
  shown: StreamToClient,
): Promise<void> {
  const { stdin, onExit, onDetach } = shown;
  const { signal } = context;
  const { handOver } = context.services;
  let outcome: Outcome;
  try {
    let early: Buffer | undefined;
    if (link.offer !== undefined && handOver !== undefined) {
      early = await handOver.give(socket, link.offer, link.handed);
      if (early === undefined) {
        context.logger.debug("a stream is handed on");
        context.keepTurn(followHanded(context, socket, link, link.offer.socket, shown));
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
    await onExit?.(outcome.exitCode);
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
  { multiplexed, headerLead, onCut, isReportedElsewhere }: StreamToClient,
): Promise<void> {
  if (isReportedElsewhere?.(error) === true) {
    socket.end();
  } else if (!socket.destroyed) {
    logger.warn({ err: error }, "a stream was cut");
    const channel = (await onCut?.()) === true ? "stderr" : "systemError";
    await headerLead?.();
    abortClient(socket, inBandText(`${messageOf(error)}\r\n`, multiplexed, channel));
  }
}

/**
 * Follows a stream whose connection the agent has, as the agent's death would look like its end: our copy of the
 * connection is closed once the agent has reported the end. Nothing is written while the agent lives: it may have more
 * output, even if its reports no longer arrive here.
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
      await shown.onExit?.(outcome.exitCode);
    }
  } catch (error) {
    if (!(error instanceof OutOfSight)) {
      await cut(context, socket, error, shown);
      return;
    }
    if (!isErrorKind(error.cause, "unavailable")) {
      await shown.onCut?.(); // The agent has reported this, to the client as well.
    }
  }
  socket.destroy(); // The agent still reads the client's input, which a shutdown would cut off.
}
