/** Transfers of images: `docker pull`, `import` and `load`, `docker push` and `save`. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";

import type { MessageInitShape } from "@bufbuild/protobuf";

import { invalid, systemError } from "../../common/errors.ts";
import { maskSecrets } from "../../common/mask-secrets.ts";
import { onAbort } from "../../common/on-abort.ts";
import { after } from "../../common/timers.ts";
import type { Platform } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { AgentEndpoint } from "../../gen/sockerless/backend/v1/endpoint_pb.ts";
import type {
  ImportImageFromUrlResponse,
  ImportImageResponse,
  ImportOpenSchema,
  LoadImageResponse,
  ReceiveArchiveResponse,
  ReceiveImageResponse,
} from "../../gen/sockerless/backend/v1/image_pb.ts";
import { namedReference, namesOneImage, pullReference } from "../convert/image-references.ts";
import { progressToJson } from "../convert/images.ts";
import { platformFromJson, platformFromText } from "../convert/platforms.ts";
import { ProgressStream } from "../http/progress-stream.ts";
import { flagOr, text } from "../http/query.ts";
import { replyPart } from "../http/reply.ts";
import { registryAuthFromHeader } from "../registry-auth.ts";
import type { ReplyContext, RequestContext, TakeContext, TakenUpload } from "../request-context.ts";
import type { Route } from "../router.ts";
import { archiveToClient, exportOperation } from "../streams/archive-to-client.ts";
import { closeCopy, OutOfSight } from "../streams/handed-on.ts";
import { type OpenStream, openStreamAt } from "../streams/open-stream.ts";
import { takeUpload } from "../streams/taken-upload.ts";

/** Milliseconds for a backend to report why an upload has failed. */
const wordLimitMs = 2_000;

/** The routes of transfers. */
export const imageTransferRoutes: readonly Route[] = [
  {
    method: "POST",
    path: "/images/load",
    kind: "transfer",
    handsOver: { part: "upload", take: takeImagesLoad },
    handler: postImagesLoad,
  },
  {
    method: "POST",
    path: "/images/create",
    kind: "transfer",
    handsOver: { part: "upload", take: takeImagesCreate },
    handler: postImagesCreate,
  },
  {
    method: "GET",
    path: "/images/get",
    kind: "transfer",
    handsOver: { part: "body" },
    handler: getImagesGet,
  },
  {
    method: "GET",
    path: "/images/{name}/get",
    kind: "transfer",
    handsOver: { part: "body" },
    handler: getImagesGet,
  },
  { method: "POST", path: "/images/{name}/push", kind: "transfer", handler: postImagesPush },
];

async function postImagesCreate(context: ReplyContext): Promise<void> {
  const { query, taken } = context;
  if (taken?.answer !== undefined) {
    await taken.answer(context);
  } else if (text(query, "fromImage") !== "") {
    await pullImage(context, platformToCreate(context));
  } else {
    await importImage(context);
  }
}

function platformToCreate({ query, version }: RequestContext): PlatformOption {
  const platform = version.atLeast("1.32") ? platformFromText(text(query, "platform")) : undefined;
  return platform === undefined ? {} : { platform };
}

type PlatformOption = { readonly platform?: Platform };

async function pullImage(context: ReplyContext, options: PlatformOption): Promise<void> {
  const { request, query, signal, services, response } = context;
  request.resume(); // Behind an unread body its client's leaving would go unnoticed.
  const reference = pullReference(text(query, "fromImage"), text(query, "tag"));
  const auth = registryAuthFromHeader(request.headers["x-registry-auth"]);
  const messages = services.backend.images.pullImage(
    {
      reference,
      allTags: !namesOneImage(reference),
      client: request.headers["user-agent"] ?? "",
      ...options,
      ...(auth === undefined ? {} : { auth }),
    },
    { signal },
  );
  await new ProgressStream(response, signal).relay("pull", messages, (message) =>
    message.case === "progress" ? progressToJson(message.value) : undefined,
  );
}

async function importImage(context: ReplyContext): Promise<void> {
  const { request, query, signal, services } = context;
  const image = imageToImport(context);
  const source = text(query, "fromSrc");
  if (source !== "-") {
    request.resume(); // As of a pull.
    await answerImport(
      context,
      services.backend.images.importImageFromUrl({ image, url: source }, { signal }),
    );
    return;
  }
  try {
    const value = await services.backend.images.importImage(uploadOf(request, image), { signal });
    await answerImport(context, [{ message: { case: "end", value } }]);
  } catch (error) {
    request.resume(); // A client that is still sending has to be able to finish.
    throw error;
  }
}

function imageToImport(context: RequestContext): MessageInitShape<typeof ImportOpenSchema> {
  const { query } = context;
  return {
    reference: namedReference(text(query, "repo"), text(query, "tag")),
    comment: text(query, "message") || `Imported from ${maskSecrets(text(query, "fromSrc"))}`,
    changes: query.getAll("changes"),
    ...platformToCreate(context),
  };
}

/** Lets the host process read an archive to import from the client's connection, if the backend names it. */
async function takeImagesCreate(context: TakeContext): Promise<TakenUpload | undefined> {
  const { query, services } = context;
  if (text(query, "fromImage") !== "" || text(query, "fromSrc") !== "-") {
    return undefined;
  }
  const request = { image: imageToImport(context), access: services.agents.access };
  return await takeAtPlace<ReceiveImageResponse>(
    context,
    (signal) => services.backend.images.receiveImage(request, { signal }),
    answerImport,
  );
}

async function answerImport(
  { signal, response }: ReplyContext,
  messages:
    | AsyncIterable<Pick<ReceiveImageResponse | ImportImageFromUrlResponse, "message">>
    | Iterable<{ readonly message: { readonly case: "end"; readonly value: ImportImageResponse } }>,
): Promise<void> {
  await new ProgressStream(response, signal).relay("import", messages, (message) => {
    switch (message.case) {
      case "progress":
        return progressToJson(message.value);
      case "end":
        return { status: message.value.imageId };
      default:
        return undefined;
    }
  });
}

async function postImagesLoad(context: ReplyContext): Promise<void> {
  const { request, signal, services, taken } = context;
  if (taken?.answer !== undefined) {
    await taken.answer(context);
    return;
  }
  const options = platformOfArchive(context);
  await answerLoad(context, services.backend.images.loadImage(uploadOf(request, options), { signal }));
}

/** Lets the host process read the archive from the client's connection, if the backend names it. */
async function takeImagesLoad(context: TakeContext): Promise<TakenUpload | undefined> {
  const { services } = context;
  const request = { open: platformOfArchive(context), access: services.agents.access };
  return await takeAtPlace<ReceiveArchiveResponse>(
    context,
    (signal) => services.backend.images.receiveArchive(request, { signal }),
    answerLoad,
  );
}

/**
 * Hands an upload over to the place that the backend names.
 *
 * @param call the backend's call, whose messages begin with the place
 * @param answer answers the client with the messages that follow
 */
async function takeAtPlace<Response extends ReceiveArchiveResponse | ReceiveImageResponse>(
  context: TakeContext,
  call: (signal: AbortSignal) => AsyncIterable<Response>,
  answer: (reply: ReplyContext, messages: AsyncIterable<Response>) => Promise<void>,
): Promise<TakenUpload | undefined> {
  const { connection, services, signal } = context;
  const over = new AbortController();
  const leaving = onAbort(signal, () => over.abort(signal.reason));
  let taken: TakenUpload | undefined;
  try {
    const messages = call(over.signal)[Symbol.asyncIterator]();
    const first: Response | undefined = (await messages.next()).value;
    if (first?.message.case === "ready" && first.message.value.endpoint !== undefined) {
      taken = await takeUpload(context, first.message.value.endpoint, {});
    }
    if (taken === undefined) {
      return undefined;
    }
    const { ended, lose } = taken;
    return {
      ...taken,
      async answer(reply) {
        using _leaving = onAbort(reply.signal, () => {
          lose(reply.signal.reason);
          over.abort(reply.signal.reason);
        });
        let isAnswered = false;
        ended.catch((error: unknown) => {
          if (isAnswered) {
            return;
          }
          if (error instanceof OutOfSight) {
            closeCopy(reply.response, connection);
            over.abort(error);
          } else {
            // The backend knows why an upload fails that has reached its endpoint.
            after(services.clock, wordLimitMs, () => over.abort(error));
          }
        });
        try {
          await answer(reply, { [Symbol.asyncIterator]: () => messages });
        } finally {
          isAnswered = true;
        }
      },
    };
  } finally {
    leaving[Symbol.dispose]();
    if (taken === undefined) {
      over.abort();
    }
  }
}

async function answerLoad(
  { query, signal, response }: ReplyContext,
  messages: AsyncIterable<Pick<LoadImageResponse | ReceiveArchiveResponse, "message">>,
): Promise<void> {
  const isQuiet = flagOr(query, "quiet", true);
  await new ProgressStream(response, signal).relay(
    "load",
    messages,
    (message) => {
      switch (message.case) {
        case "progress":
          if (message.value.id === "") {
            return { stream: `${message.value.status}\n` };
          }
          return isQuiet ? undefined : progressToJson(message.value);
        case "loaded": {
          const { reference, imageId } = message.value;
          const what = reference === "" ? `image ID: ${imageId}` : `image: ${reference}`;
          return { stream: `Loaded ${what}\n` };
        }
        default:
          return undefined;
      }
    },
    { alwaysInBand: true }, // As in dockerd: its clients do not look at the status.
  );
}

async function postImagesPush(context: ReplyContext): Promise<void> {
  const { request, parameters, query, version, signal, services, response } = context;
  request.resume(); // As of a pull.
  const platform = version.atLeast("1.46") ? platformFromJson(text(query, "platform")) : undefined;
  const auth = registryAuthFromHeader(request.headers["x-registry-auth"]);
  const messages = services.backend.images.pushImage(
    {
      reference: namedReference(parameters["name"] ?? "", text(query, "tag")),
      client: request.headers["user-agent"] ?? "",
      ...(auth === undefined ? {} : { auth }),
      ...(platform === undefined ? {} : { platform }),
    },
    { signal },
  );
  await new ProgressStream(response, signal).relay("push", messages, (message) => {
    switch (message.case) {
      case "progress":
        return progressToJson(message.value);
      case "pushed": {
        const { tag, digest, size } = message.value;
        return { progressDetail: {}, aux: { Tag: tag, Digest: digest, Size: size } };
      }
      default:
        return undefined;
    }
  });
}

async function getImagesGet(context: ReplyContext): Promise<void> {
  const { parameters, query, signal, services, response } = context;
  const options = platformOfArchive(context);
  const { name } = parameters;
  const over = new AbortController();
  using leaving = onAbort(signal, () => over.abort(signal.reason));
  const references = name === undefined ? query.getAll("names") : [name];
  const messages = services.backend.images
    .saveImages({ references, access: services.agents.access, ...options }, { signal: over.signal })
    [Symbol.asyncIterator]();
  for (let next = await messages.next(); next.done !== true; next = await messages.next()) {
    const { message } = next.value;
    if (message.case === "ready") {
      messages.next().catch(() => {}); // Nothing follows; this side ends the call.
      await archiveFromPlace(context, message.value.endpoint, over, leaving);
      return;
    }
    if (message.case === "chunk") {
      if (!response.headersSent) {
        response.writeHead(200, { "Content-Type": "application/x-tar" });
      }
      await replyPart(response, message.value, signal);
    } else if (message.case === "end") {
      response.end();
      return;
    }
  }
  throw systemError("the backend ended a save without its last message");
}

/**
 * Writes an endpoint's archive.
 *
 * @param over is aborted when the endpoint is no longer needed, which may be after this returns
 * @param leaving aborts when the client leaves, but not once its connection is handed over
 */
async function archiveFromPlace(
  context: ReplyContext,
  endpoint: AgentEndpoint | undefined,
  over: AbortController,
  leaving: Disposable,
): Promise<void> {
  let isHandedOn = false;
  const open = async (client?: Socket): Promise<OpenStream> =>
    await openStreamAt(context, endpoint, { operation: exportOperation, framing: "raw", client });
  try {
    const { link } = await open(context.connection);
    context.response.writeHead(200, { "Content-Type": "application/x-tar" });
    await archiveToClient(context, link, open, () => {
      isHandedOn = true;
      leaving[Symbol.dispose]();
      const end = (): void => over.abort();
      link.ended.then(end, end);
    });
  } finally {
    if (!isHandedOn) {
      over.abort();
    }
  }
}

/** The image's platform in an archive. @throws invalid if there are several */
function platformOfArchive({ query, version }: RequestContext): PlatformOption {
  const platforms = version.atLeast("1.48") ? query.getAll("platform") : [];
  if (platforms.length > 1) {
    throw invalid("multiple platform parameters not supported");
  }
  const platform = platformFromJson(platforms[0] ?? "");
  return platform === undefined ? {} : { platform };
}

/** The messages of an upload: its description, the body, and the mark of completeness. */
async function* uploadOf<Open>(
  request: IncomingMessage,
  open: Open,
): AsyncGenerator<
  | { readonly message: { readonly case: "open"; readonly value: Open } }
  | { readonly message: { readonly case: "chunk"; readonly value: Uint8Array } }
  | { readonly message: { readonly case: "end"; readonly value: Record<string, never> } }
> {
  yield { message: { case: "open", value: open } };
  // The backend may refuse before it has read everything; the refusal must still be written to this socket.
  for await (const value of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    yield { message: { case: "chunk", value } };
  }
  yield { message: { case: "end", value: {} } };
}
