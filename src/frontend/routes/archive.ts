/** `/containers/{id}/archive`: a container's files as tar streams. */
import type { Socket } from "node:net";

import { archivedPath, encodeArchiveGet, encodeArchivePut } from "../../agent-client/archive.ts";
import { fromUnknown, invalid, notFound } from "../../common/errors.ts";
import { onAbort } from "../../common/on-abort.ts";
import { type OpenArchiveResponse, StreamUse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { pathStatHeader, pathStatHeaderValue } from "../convert/path-stat.ts";
import { flag, text } from "../http/query.ts";
import { replyEmpty } from "../http/reply.ts";
import type { ReplyContext, RequestContext, TakeContext, TakenUpload } from "../request-context.ts";
import type { Route } from "../router.ts";
import { archiveToClient } from "../streams/archive-to-client.ts";
import { closeCopy, OutOfSight } from "../streams/handed-on.ts";
import { type Access, atAgent, type OpenStream, openStreamAt } from "../streams/open-stream.ts";
import { requestToStream } from "../streams/request-to-stream.ts";
import type { StreamLink } from "../streams/stream-link.ts";
import type { StreamOperation } from "../streams/thread-messages.ts";
import { recordStreamUse } from "../streams/stream-use.ts";
import { takeUpload } from "../streams/taken-upload.ts";

/** Milliseconds to wait until an archive is accepted: for stored files of clouds no acceptance is sent. */
const takenLimitMs = 1_000;

/** The endpoints of archives. */
export const archiveRoutes: readonly Route[] = [
  { method: "HEAD", path: "/containers/{id}/archive", handler: headContainersArchive },
  {
    method: "GET",
    path: "/containers/{id}/archive",
    kind: "transfer",
    handsOver: { part: "body" },
    handler: getContainersArchive,
  },
  {
    method: "PUT",
    path: "/containers/{id}/archive",
    kind: "transfer",
    handsOver: { part: "upload", take: takeContainersArchive },
    handler: putContainersArchive,
  },
];

async function headContainersArchive(context: ReplyContext): Promise<void> {
  const { response, services, signal } = context;
  const path = pathOf(context);
  const stat = await atAgent(context, opener(context, false), async ({ endpoint }) => {
    const agent = services.agents.clientOf(endpoint);
    try {
      return (await agent.client.archiveStat({ path }, { signal })).stat;
    } catch (error) {
      throw inDockersWords(error, context, path);
    } finally {
      agent.close();
    }
  });
  if (stat === undefined) {
    throw new Error("the agent answered no metadata");
  }
  response.writeHead(200, { [pathStatHeader]: pathStatHeaderValue(archivedPath(stat)) });
  response.end();
}

async function getContainersArchive(context: ReplyContext): Promise<void> {
  const path = pathOf(context);
  const operation = (handOver: boolean): StreamOperation => ({
    kind: "archive-get",
    request: encodeArchiveGet({ path, handOver }),
  });
  const open = async (client?: Socket): Promise<OpenStream> =>
    await atAgent(context, opener(context, false), async ({ endpoint }) => {
      const opening = openStreamAt(context, endpoint, { operation, framing: "raw", client });
      return await opening.catch((error: unknown) => {
        throw inDockersWords(error, context, path);
      });
    });
  const { link, opened } = await open(context.connection);
  if (opened.kind !== "archive") {
    throw new Error("the agent answered an archive without its metadata");
  }
  await recordStreamUse(context, containerOf(context), StreamUse.ARCHIVE_READ);
  context.response.writeHead(200, {
    "Content-Type": "application/x-tar",
    [pathStatHeader]: pathStatHeaderValue(opened.stat),
  });
  await archiveToClient(context, link, open);
}

/** Lets the container's agent read the archive from the client's connection. */
async function takeContainersArchive(context: TakeContext): Promise<TakenUpload | undefined> {
  const { endpoint, user } = await opener(context, true)(context.services.agents.access);
  return await takeUpload(context, endpoint, archivePutOf(context, user));
}

/** Answers for an archive that the agent reads, unless the agent answers itself. */
async function answerTaken(context: ReplyContext, { connection, ended, lose }: TakenUpload): Promise<void> {
  const { response, signal } = context;
  try {
    using _leaving = onAbort(signal, () => lose(signal.reason));
    await ended;
  } catch (error) {
    if (!(error instanceof OutOfSight)) {
      throw inDockersWords(error, context, pathOf(context));
    }
    closeCopy(response, connection);
    return;
  }
  await recordStreamUse(context, containerOf(context), StreamUse.ARCHIVE_WRITTEN);
  replyEmpty(response, 200);
}

async function putContainersArchive(context: ReplyContext): Promise<void> {
  const { request, response, services, taken } = context;
  if (taken !== undefined) {
    await answerTaken(context, taken);
    return;
  }
  const path = pathOf(context);
  const inWords = (error: unknown): never => {
    throw inDockersWords(error, context, path);
  };
  try {
    const link = await atAgent(context, opener(context, true), async ({ endpoint, user }) => {
      const open = encodeArchivePut(archivePutOf(context, user));
      const target = services.agents.targetOf(endpoint);
      const opening = services.streams.open(target, { kind: "archive-put", open }, "raw");
      await untilTaken(context, opening).catch(inWords);
      return opening;
    });
    await requestToStream(context, link).catch(inWords);
  } catch (error) {
    // The rest of the upload is discarded, but a client that still sends must be able to finish.
    request.resume();
    throw error;
  }
  await recordStreamUse(context, containerOf(context), StreamUse.ARCHIVE_WRITTEN);
  replyEmpty(response, 200);
}

/** The target of an archive. @param user the container's user */
function archivePutOf(context: RequestContext, user: string) {
  const { query } = context;
  return {
    path: pathOf(context),
    noOverwriteDirNonDir: flag(query, "noOverwriteDirNonDir"),
    // Entries keep their owners if the container has no user of its own, as in dockerd.
    copyUidGid: user !== "" && flag(query, "copyUIDGID"),
    user,
  };
}

/** Waits until the agent accepts the archive: an agent that refuses before that has not read a byte of it. */
async function untilTaken({ services, signal }: ReplyContext, link: StreamLink): Promise<void> {
  const over = new AbortController();
  const limit = services.clock.sleep(takenLimitMs, AbortSignal.any([signal, over.signal]));
  try {
    await Promise.race([link.opened, limit]);
  } catch (error) {
    link.cancel();
    throw error;
  } finally {
    over.abort();
  }
}

function containerOf({ parameters }: RequestContext): string {
  return parameters["id"] ?? "";
}

function pathOf({ query }: RequestContext): string {
  const path = text(query, "path");
  if (path === "") {
    throw invalid("bad parameter: pathcannot be empty");
  }
  return path;
}

function opener(context: RequestContext, write: boolean): (access: Access) => Promise<OpenArchiveResponse> {
  const { services, signal } = context;
  const container = containerOf(context);
  return (access) => services.backend.containers.openArchive({ container, access, write }, { signal });
}

/** Converts an agent's error to Docker's wording, which names the container as the client did. */
function inDockersWords(error: unknown, context: ReplyContext, path: string): Error {
  const converted = fromUnknown(error);
  return converted.kind === "not-found"
    ? notFound(`Could not find the file ${path} in container ${containerOf(context)}`, error)
    : converted;
}
