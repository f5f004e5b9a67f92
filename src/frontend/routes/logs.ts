/** `/containers/{id}/logs`: what a container wrote. */
import { encodeLogsRequest } from "../../agent-client/logs.ts";
import { messageOf } from "../../common/errors.ts";
import { LogForm } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { OpenLogsResponse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { detailsPrefix, logsQueryOf } from "../convert/logs.ts";
import { streamContentType } from "../hijack.ts";
import type { ReplyContext, RequestContext } from "../request-context.ts";
import type { Route } from "../router.ts";
import type { HeldCall } from "../streams/hand-over.ts";
import { inBandText } from "../streams/client-socket.ts";
import { type Access, openStream } from "../streams/open-stream.ts";
import { streamToResponse } from "../streams/stream-to-response.ts";

/** The endpoint of logs. */
export const logsRoutes: readonly Route[] = [
  {
    method: "GET",
    path: "/containers/{id}/logs",
    kind: "stream",
    handsOver: {
      part: "answer",
      call: heldLog,
      contentType: (asked, call) => streamContentType(asked, call.kind === "log" && call.frames),
    },
    handler: getContainersLogs,
  },
];

async function getContainersLogs(context: ReplyContext): Promise<void> {
  const { query, parameters, response } = context;
  const { request, details } = logsQueryOf(query);
  const { link, place } = await openStream(
    context,
    (access) => openLogs(context, parameters["id"] ?? "", access),
    (found) => ({
      operation: () => ({ kind: "logs", request: encodeLogsRequest(requestFor(found, request, details)) }),
      framing: found.tty ? "raw" : "multiplexed",
    }),
  );
  response.writeHead(200, { "Content-Type": streamContentType(context, !place.tty) });
  // A followed log may stay silent for hours; the header tells the client that it is served.
  response.flushHeaders();
  await streamToResponse(context, link, (error) =>
    inBandText(`Error grabbing logs: ${messageOf(error)}\n`, !place.tty, "systemError"),
  );
}

/** A log that the forwarder reads from an agent on this machine. */
async function heldLog(context: RequestContext): Promise<HeldCall | undefined> {
  const { request, details } = logsQueryOf(context.query);
  const place = await openLogs(context, context.parameters["id"] ?? "", context.services.agents.access);
  const { endpoint, tty } = place;
  if (endpoint?.address.case !== "unixPath") {
    return undefined;
  }
  return {
    kind: "log",
    socket: endpoint.address.value,
    containerId: endpoint.containerId,
    request: encodeLogsRequest({ ...requestFor(place, request, details), handOver: request.follow !== true }),
    frames: !tty,
  };
}

/** The request for a log to the agent at an endpoint. */
function requestFor(
  { tty, details: shown }: OpenLogsResponse,
  request: ReturnType<typeof logsQueryOf>["request"],
  details: boolean,
) {
  const form = tty ? LogForm.LINES : LogForm.FRAMES;
  return { ...request, linePrefix: details ? detailsPrefix(shown) : "", form };
}

async function openLogs(
  { services: { backend }, signal }: RequestContext,
  container: string,
  access: Access,
): Promise<OpenLogsResponse> {
  return await backend.containers.openLogs({ container, access }, { signal });
}
