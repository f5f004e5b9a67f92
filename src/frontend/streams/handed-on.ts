/** Streams whose client's connection their agent has: how they end, as it is seen from here. */
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

import type { Logger } from "../../common/logger.ts";
import { hasDied } from "./hand-over.ts";

/** A stream that goes on out of our sight: its agent lives, and sees to its client. */
export class OutOfSight extends Error {}

/**
 * Follows a stream to its end, for the log too.
 *
 * @param what it is: "an archive"
 * @param socket at which its agent made its offer
 * @param ended as the agent tells it
 * @throws OutOfSight; what `ended` rejects with, where its agent is dead: then nobody writes to the client
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

/** Closes our copy of a connection whose agent answers the client: two may not. */
export function letGo(response: ServerResponse, connection: Socket): void {
  response.detachSocket(connection);
  connection.destroy();
}
