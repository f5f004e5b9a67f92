/** What a container changed: `/containers/{name}/changes`, `/containers/{name}/export` and `/commit`. */
import { once } from "node:events";
import type { ServerResponse } from "node:http";

import { createAgentClient } from "../../agent-client/client.ts";
import { encodeExportRequest } from "../../agent-client/export.ts";
import { systemError } from "../../common/errors.ts";
import type { ChangesResponse } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { OpenChangesResponse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { containerConfigFromJson } from "../convert/container-config.ts";
import { namedReference } from "../convert/image-references.ts";
import { JsonFields } from "../convert/json-fields.ts";
import { readJsonBody } from "../json-body.ts";
import { flagOr, text } from "../query.ts";
import { replyJson, stringifyJson } from "../reply.ts";
import type { ReplyContext } from "../request-context.ts";
import { builtBackends, type Route } from "../router.ts";
import { openStream } from "../streams/open-stream.ts";
import { streamToResponse } from "../streams/stream-to-response.ts";

/** The routes of changes. */
export const changesRoutes: readonly Route[] = [
  {
    method: "GET",
    path: "/containers/{name}/export",
    answeredBy: builtBackends,
    handler: getContainersExport,
  },
  {
    method: "GET",
    path: "/containers/{name}/changes",
    answeredBy: builtBackends,
    handler: getContainersChanges,
  },
  { method: "POST", path: "/commit", answeredBy: builtBackends, handler: postCommit },
];

async function getContainersChanges(context: ReplyContext): Promise<void> {
  const { response, services, signal } = context;
  const { endpoint } = await openChanges(context, false);
  const { address, ...options } = services.agents.targetOf(endpoint);
  const agent = createAgentClient(address, options);
  try {
    await writeChanges(response, agent.client.changes({}, { signal }), signal);
  } finally {
    agent.close();
  }
}

/** Writes the changes as they come: a container may have millions. None at all is `null`, as in moby. */
async function writeChanges(
  response: ServerResponse,
  messages: AsyncIterable<ChangesResponse>,
  signal: AbortSignal,
): Promise<void> {
  let separator = "[";
  for await (const { message } of messages) {
    if (message.case === "change") {
      if (separator === "[") {
        response.writeHead(200, { "Content-Type": "application/json" });
      }
      const { path, kind } = message.value;
      if (!response.write(separator + stringifyJson({ Path: path, Kind: kind - 1 }))) {
        await once(response, "drain", { signal });
      }
      separator = ",";
    } else if (message.case === "end") {
      if (separator === "[") {
        replyJson(response, 200, null);
      } else {
        response.end("]\n");
      }
      return;
    }
  }
  throw systemError("the agent's stream ended before its last message");
}

async function getContainersExport(context: ReplyContext): Promise<void> {
  const request = encodeExportRequest({});
  const { link } = await openStream(
    context,
    () => openChanges(context, true),
    () => ({ operation: { kind: "export", request }, framing: "raw" }),
  );
  context.response.writeHead(200, { "Content-Type": "application/octet-stream" });
  await streamToResponse(context, link);
}

async function postCommit(context: ReplyContext): Promise<void> {
  const { request, query, services, signal, response } = context;
  const body = await readJsonBody(request, { optional: true });
  const config = containerConfigFromJson(new JsonFields(body ?? {}, "Config"));
  const { imageId } = await services.backend.containers.commitContainer(
    {
      container: text(query, "container"),
      reference: namedReference(text(query, "repo"), text(query, "tag")),
      comment: text(query, "comment"),
      author: text(query, "author"),
      pause: flagOr(query, "pause", true),
      changes: query.getAll("changes"),
      ...(config === undefined ? {} : { config }),
    },
    { signal },
  );
  replyJson(response, 201, { Id: imageId });
}

function openChanges(
  { services, parameters, signal }: ReplyContext,
  isExport: boolean,
): Promise<OpenChangesResponse> {
  return services.backend.containers.openChanges(
    { container: parameters["name"] ?? "", access: services.agents.access, export: isExport },
    { signal },
  );
}
