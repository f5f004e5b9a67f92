/** A container's changed files: `/containers/{name}/changes`, `/containers/{name}/export`, `/commit`. */
import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";

import { systemError } from "../../common/errors.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import type { ChangesResponse } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import type { OpenChangesResponse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { readBody } from "../bodies/read-body.ts";
import { namedReference } from "../convert/image-references.ts";
import { flagOr, text } from "../http/query.ts";
import { replyJson, replyPart } from "../http/reply.ts";
import type { ReplyContext } from "../request-context.ts";
import type { Route } from "../router.ts";
import { archiveToClient, exportOperation } from "../streams/archive-to-client.ts";
import { type Access, atAgent, type OpenStream, openStream } from "../streams/open-stream.ts";

/** The routes of changes. */
export const changesRoutes: readonly Route[] = [
  {
    method: "GET",
    path: "/containers/{name}/export",
    kind: "transfer",
    handsOver: { part: "body" },
    handler: getContainersExport,
  },
  { method: "GET", path: "/containers/{name}/changes", handler: getContainersChanges },
  { method: "POST", path: "/commit", handler: postCommit },
];

async function getContainersChanges(context: ReplyContext): Promise<void> {
  const { response, services, signal } = context;
  const { agent, first, rest } = await atAgent(
    context,
    (access) => openChanges(context, access, false),
    async ({ endpoint }) => {
      const agent = services.agents.clientOf(endpoint);
      try {
        const rest = agent.client.changes({}, { signal })[Symbol.asyncIterator]();
        return { agent, first: await rest.next(), rest };
      } catch (error) {
        agent.close();
        throw error;
      }
    },
  );
  try {
    await writeChanges(response, first, rest, signal);
  } finally {
    agent.close();
  }
}

/** Streams the changes, as a container may have millions. No changes are `null`, as in moby. */
async function writeChanges(
  response: ServerResponse,
  first: IteratorResult<ChangesResponse>,
  rest: AsyncIterator<ChangesResponse>,
  signal: AbortSignal,
): Promise<void> {
  let separator = "[";
  for (let next = first; next.done !== true; next = await rest.next()) {
    const { message } = next.value;
    if (message.case === "change") {
      if (separator === "[") {
        response.writeHead(200, { "Content-Type": "application/json" });
      }
      const { path, kind } = message.value;
      await replyPart(response, separator + stringifyJson({ Path: path, Kind: kind - 1 }), signal);
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
  const open = async (client?: Socket): Promise<OpenStream> =>
    await openStream(
      context,
      (access) => openChanges(context, access, true),
      () => ({ operation: exportOperation, framing: "raw", client }),
    );
  const { link } = await open(context.connection);
  context.response.writeHead(200, { "Content-Type": "application/octet-stream" });
  await archiveToClient(context, link, open);
}

async function postCommit(context: ReplyContext): Promise<void> {
  const { query, services, signal, response } = context;
  const { fields } = await readBody(context, "commitContainer", { optional: true });
  const { imageId } = await services.backend.containers.commitContainer(
    {
      container: text(query, "container"),
      reference: namedReference(text(query, "repo"), text(query, "tag")),
      comment: text(query, "comment"),
      author: text(query, "author"),
      pause: flagOr(query, "pause", true),
      changes: query.getAll("changes"),
      ...fields,
    },
    { signal },
  );
  replyJson(response, 201, { Id: imageId });
}

function openChanges(
  { services, parameters, signal }: ReplyContext,
  access: Access,
  isExport: boolean,
): Promise<OpenChangesResponse> {
  return services.backend.containers.openChanges(
    { container: parameters["name"] ?? "", access, export: isExport },
    { signal },
  );
}
