/** `/containers/{id}/logs`: what a container wrote. */
import { encodeLogsRequest } from "../../agent-client/logs.ts";
import { messageOf } from "../../common/errors.ts";
import { LogForm } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import { detailsPrefix, logsQueryOf } from "../convert/logs.ts";
import { streamContentType } from "../hijack.ts";
import type { ReplyContext } from "../request-context.ts";
import { builtBackends, type Route } from "../router.ts";
import { inBandText } from "../streams/client-socket.ts";
import { openStream } from "../streams/open-stream.ts";
import { streamToResponse } from "../streams/stream-to-response.ts";

/** The endpoint of logs. */
export const logsRoutes: readonly Route[] = [
  {
    method: "GET",
    path: "/containers/{id}/logs",
    answeredBy: builtBackends,
    handler: getContainersLogs,
  },
];

async function getContainersLogs(context: ReplyContext): Promise<void> {
  const { query, parameters, response, services, signal } = context;
  const { request, details } = logsQueryOf(query);
  const { link, place } = await openStream(
    context,
    (access) =>
      services.backend.containers.openLogs({ container: parameters["id"] ?? "", access }, { signal }),
    ({ tty, details: shown }) => ({
      operation: {
        kind: "logs",
        request: encodeLogsRequest({
          ...request,
          linePrefix: details ? detailsPrefix(shown) : "",
          form: tty ? LogForm.LINES : LogForm.FRAMES,
        }),
      },
      framing: tty ? "raw" : "multiplexed",
    }),
  );
  response.writeHead(200, { "Content-Type": streamContentType(context, !place.tty) });
  // A log that is followed may stay silent for hours; the client must know that it is served.
  response.flushHeaders();
  await streamToResponse(context, link, (error) =>
    inBandText(`Error grabbing logs: ${messageOf(error)}\n`, !place.tty, "systemError"),
  );
}
