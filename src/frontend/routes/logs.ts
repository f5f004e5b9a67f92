/** `/containers/{id}/logs`: what a container wrote. */
import { create, toJson } from "@bufbuild/protobuf";

import { encodeLogsRequest } from "../../agent-client/logs.ts";
import { messageOf } from "../../common/errors.ts";
import { LogForm } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import {
  OpenLogsRequestSchema,
  type OpenLogsResponse,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
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
    handsOver: { part: "answer", call: heldLog },
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

/** The call by which the forwarder reads a log; it refuses one whose agent is not on this machine. */
async function heldLog(context: RequestContext): Promise<HeldCall | undefined> {
  const { query, parameters, services } = context;
  const { request, details } = logsQueryOf(query);
  const { access } = services.agents;
  const open = create(OpenLogsRequestSchema, { container: parameters["id"] ?? "", access });
  return {
    kind: "log",
    open: toJson(OpenLogsRequestSchema, open),
    request: encodeLogsRequest({ ...request, handOver: request.follow !== true }),
    details,
    contentType: streamContentType(context, true),
    ttyContentType: streamContentType(context, false),
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
