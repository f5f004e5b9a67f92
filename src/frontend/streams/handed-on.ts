/** Streams whose agent has taken the client's connection: how their end is observed here. */
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

import type { Logger } from "../../common/logger.ts";
import { hasDied } from "./hand-over.ts";

/** A stream that continues unobserved: its agent lives and serves the client. */
export class OutOfSight extends Error {}

/**
 * Follows a stream to its end, and logs it.
 *
 * @param what kind of stream: "an archive"
 * @param socket at which its agent made its offer
 * @param ended the end that the agent reports
 * @throws OutOfSight; the rejection of `ended`, if the agent is dead and nobody writes to the client
 */
export async function endOfHanded<End extends object>(
  logger: Logger,
  what: string,
  socket: string,
  ended: Promise<End>,
): Promise<End> {
  const began = performance.now();
  const ms = (): number => Math.round(performance.now() - began);
  try {
    const end = await ended;
    const told: object = { ...end, ms: ms() };
    logger.debug(told, `${what} that was handed on has ended`);
    return end;
  } catch (error) {
    if (await hasDied(socket)) {
      throw error;
    }
    logger.warn({ err: error, ms: ms() }, `${what} that was handed on is followed no more`);
    throw new OutOfSight(`${what} is followed no more`, { cause: error });
  }
}

/** Closes our copy of a connection whose agent answers the client. */
export function closeCopy(response: ServerResponse, connection: Socket): void {
  response.detachSocket(connection);
  connection.destroy();
}
