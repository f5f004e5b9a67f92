/** A tar stream as the body of an answer, which the agent writes itself if it takes the client's connection. */
import { encodeExportRequest } from "../../agent-client/export.ts";
import type { ReplyContext } from "../request-context.ts";
import { endOfHanded, closeCopy, OutOfSight } from "./handed-on.ts";
import type { OpenStream } from "./open-stream.ts";
import type { StreamLink } from "./stream-link.ts";
import { streamToResponse } from "./stream-to-response.ts";
import type { StreamOperation } from "./thread-messages.ts";

/** The call that exports an endpoint's archive. */
export function exportOperation(handOver: boolean): StreamOperation {
  return { kind: "export", request: encodeExportRequest({ handOver }) };
}

/**
 * Writes an archive as the rest of a response whose header was written. Returns as soon as the agent has taken the
 * client's connection; the request then stays in progress until the agent is done.
 *
 * @param open reopens the archive through a worker: an agent whose offer is declined sends nothing
 * @param handedOn called once the agent has the connection, before our copy is closed
 * @throws StreamError if the archive was cut
 */
export async function archiveToClient(
  context: ReplyContext,
  link: StreamLink,
  open: () => Promise<OpenStream>,
  handedOn: () => void = () => {},
): Promise<void> {
  if (link.offer === undefined) {
    await streamToResponse(context, link);
  } else if (!(await isHandedOn(context, link, handedOn))) {
    link.cancel();
    await streamToResponse(context, (await open()).link);
  }
}

async function isHandedOn(context: ReplyContext, link: StreamLink, handedOn: () => void): Promise<boolean> {
  const { connection, response, services, logger } = context;
  const { handOver } = services;
  if (connection === undefined || link.offer === undefined || handOver === undefined) {
    return false;
  }
  response.flushHeaders();
  if ((await handOver.give(connection, link.offer)) !== undefined) {
    connection.resume(); // To see that the client leaves.
    return false;
  }
  handedOn();
  closeCopy(response, connection);
  logger.debug("an archive is handed on");
  const ended = endOfHanded(logger, "an archive", link.offer.socket, link.ended);
  context.keepTurn(
    ended.catch((error: unknown) => {
      if (!(error instanceof OutOfSight)) {
        logger.warn({ err: error }, "an archive that was handed on was cut");
      }
    }),
  );
  return true;
}
