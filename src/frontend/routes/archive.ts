/** `/containers/{id}/archive`: a container's files as tar streams. */
import { archivedPath, encodeArchiveGet, encodeArchivePut } from "../../agent-client/archive.ts";
import { createAgentClient } from "../../agent-client/client.ts";
import { fromUnknown, invalid, notFound } from "../../common/errors.ts";
import { type OpenArchiveResponse, StreamUse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { pathStatHeader, pathStatHeaderValue } from "../convert/path-stat.ts";
import { flag, text } from "../query.ts";
import { replyEmpty } from "../reply.ts";
import type { ReplyContext } from "../request-context.ts";
import { builtBackends, type Route } from "../router.ts";
import { openStream } from "../streams/open-stream.ts";
import { requestToStream } from "../streams/request-to-stream.ts";
import { streamToResponse } from "../streams/stream-to-response.ts";
import { recordStreamUse } from "../streams/stream-use.ts";

/** The endpoints of archives. */
export const archiveRoutes: readonly Route[] = [
  {
    method: "HEAD",
    path: "/containers/{id}/archive",
    answeredBy: builtBackends,
    handler: statPath,
  },
  {
    method: "GET",
    path: "/containers/{id}/archive",
    answeredBy: builtBackends,
    handler: getPath,
  },
  {
    method: "PUT",
    path: "/containers/{id}/archive",
    answeredBy: builtBackends,
    handler: putArchive,
  },
];

async function statPath(context: ReplyContext): Promise<void> {
  const { response, services, signal } = context;
  const path = pathOf(context);
  const { endpoint } = await openArchive(context, false);
  const { address, ...options } = services.agents.targetOf(endpoint);
  const agent = createAgentClient(address, options);
  try {
    const { stat } = await agent.client.archiveStat({ path }, { signal });
    if (stat === undefined) {
      throw new Error("the agent answered no metadata");
    }
    response.writeHead(200, { [pathStatHeader]: pathStatHeaderValue(archivedPath(stat)) });
    response.end();
  } catch (error) {
    throw inDockersWords(error, context, path);
  } finally {
    agent.close();
  }
}

async function getPath(context: ReplyContext): Promise<void> {
  const { response } = context;
  const path = pathOf(context);
  const request = encodeArchiveGet({ path });
  let isContainerFound = false;
  const { link, opened } = await openStream(
    context,
    async () => {
      const place = await openArchive(context, false);
      isContainerFound = true;
      return place;
    },
    () => ({ operation: { kind: "archive-get", request }, framing: "raw" }),
  ).catch((error: unknown) => {
    throw isContainerFound ? inDockersWords(error, context, path) : error;
  });
  if (opened.kind !== "archive") {
    throw new Error("the agent answered an archive without its metadata");
  }
  await recordStreamUse(context, containerOf(context), StreamUse.ARCHIVE_READ);
  response.writeHead(200, {
    "Content-Type": "application/x-tar",
    [pathStatHeader]: pathStatHeaderValue(opened.stat),
  });
  await streamToResponse(context, link);
}

async function putArchive(context: ReplyContext): Promise<void> {
  const { query, request, response, services } = context;
  const path = pathOf(context);
  const { endpoint, user } = await openArchive(context, true);
  const open = encodeArchivePut({
    path,
    noOverwriteDirNonDir: flag(query, "noOverwriteDirNonDir"),
    copyUidGid: flag(query, "copyUIDGID"),
    user,
  });
  const target = services.agents.targetOf(endpoint);
  const link = services.streams.open(target, { kind: "archive-put", open }, "raw");
  try {
    await requestToStream(context, link);
  } catch (error) {
    // The rest of the upload is of no use to anybody, but a client that is still sending has to be able to finish.
    request.resume();
    throw inDockersWords(error, context, path);
  }
  await recordStreamUse(context, containerOf(context), StreamUse.ARCHIVE_WRITTEN);
  replyEmpty(response, 200);
}

function containerOf({ parameters }: ReplyContext): string {
  return parameters["id"] ?? "";
}

function pathOf({ query }: ReplyContext): string {
  const path = text(query, "path");
  if (path === "") {
    throw invalid("bad parameter: pathcannot be empty");
  }
  return path;
}

function openArchive(context: ReplyContext, write: boolean): Promise<OpenArchiveResponse> {
  const { services, signal } = context;
  return services.backend.containers.openArchive(
    { container: containerOf(context), access: services.agents.access, write },
    { signal },
  );
}

/** The agent knows paths, Docker's message names the container as the client did. */
function inDockersWords(error: unknown, context: ReplyContext, path: string): Error {
  const converted = fromUnknown(error);
  return converted.kind === "not-found"
    ? notFound(`Could not find the file ${path} in container ${containerOf(context)}`, error)
    : converted;
}
