/** `/images`: pull, import, load and what is there. */
import type { IncomingMessage } from "node:http";

import { invalid, systemError } from "../../common/errors.ts";
import type { StringList } from "../../gen/sockerless/backend/v1/config_pb.ts";
import {
  distributionToJson,
  historyEntryToJson,
  imageDetailToJson,
  imageSummaryToJson,
  progressToJson,
  removedImageToJson,
} from "../convert/images.ts";
import { namedReference, namesOneImage, pullReference } from "../convert/image-references.ts";
import { platformFromJson, platformFromText } from "../convert/platforms.ts";
import { filterKeys, readFilters } from "../filters.ts";
import { notBuilt, refuse } from "../not-built.ts";
import { ProgressStream } from "../progress-stream.ts";
import { flag, flagOr, text } from "../query.ts";
import { registryAuthFromHeader } from "../registry-auth.ts";
import { replyEmpty, replyJson } from "../reply.ts";
import type { ReplyContext } from "../request-context.ts";
import { builtBackends, type Route } from "../router.ts";

/** The routes of images, in the order in which they are tried. */
export const imageRoutes: readonly Route[] = [
  { method: "GET", path: "/images/json", answeredBy: builtBackends, handler: getImagesJson },
  notBuilt("GET", "/images/search", "docker search"),
  { method: "GET", path: "/images/{name}/history", answeredBy: builtBackends, handler: getImagesHistory },
  { method: "GET", path: "/images/{name}/json", answeredBy: builtBackends, handler: getImagesByName },
  { method: "POST", path: "/images/load", answeredBy: builtBackends, handler: postImagesLoad },
  {
    method: "POST",
    path: "/images/create",
    answeredBy: builtBackends,
    note: "Pull, and import of a request's body.",
    handler: postImagesCreate,
  },
  { method: "POST", path: "/images/prune", answeredBy: builtBackends, handler: postImagesPrune },
  { method: "POST", path: "/images/{name}/tag", answeredBy: builtBackends, handler: postImagesTag },
  { method: "DELETE", path: "/images/{name}", answeredBy: builtBackends, handler: deleteImages },
  { method: "GET", path: "/distribution/{name}/json", answeredBy: builtBackends, handler: getDistribution },
];

async function getImagesJson(context: ReplyContext): Promise<void> {
  const { query, version, signal, services, response } = context;
  const filters = readFilters(query, filterKeys.images);
  const oldFilter = version.before("1.41") ? text(query, "filter") : "";
  if (oldFilter !== "") {
    addFilterValue(filters, "reference", oldFilter);
  }
  const { images } = await services.backend.images.listImages(
    {
      all: flag(query, "all"),
      filters,
      digests: flag(query, "digests"),
      sharedSize: version.atLeast("1.42") && flag(query, "shared-size"),
    },
    { signal },
  );
  replyJson(
    response,
    200,
    images.map((each) => imageSummaryToJson(each, version)),
  );
}

async function getDistribution(context: ReplyContext): Promise<void> {
  const { request, signal, services, response } = context;
  const auth = registryAuthFromHeader(request.headers["x-registry-auth"]);
  const image = await services.backend.images.inspectDistribution(
    { reference: nameOf(context), ...(auth === undefined ? {} : { auth }) },
    { signal },
  );
  replyJson(response, 200, distributionToJson(image));
}

async function getImagesByName(context: ReplyContext): Promise<void> {
  const { query, version, signal, services, response } = context;
  const platform = version.atLeast("1.49") ? platformFromJson(text(query, "platform")) : undefined;
  if (platform !== undefined && version.atLeast("1.48") && flag(query, "manifests")) {
    throw invalid("conflicting options: manifests and platform options cannot both be set");
  }
  const { image } = await services.backend.images.inspectImage(
    { image: nameOf(context), ...(platform === undefined ? {} : { platform }) },
    { signal },
  );
  if (image === undefined) {
    throw systemError("the backend answered an inspect without an image");
  }
  replyJson(response, 200, imageDetailToJson(image, version));
}

async function getImagesHistory(context: ReplyContext): Promise<void> {
  const { query, version, signal, services, response } = context;
  const platform = version.atLeast("1.48") ? platformFromJson(text(query, "platform")) : undefined;
  const { entries } = await services.backend.images.getImageHistory(
    { image: nameOf(context), ...(platform === undefined ? {} : { platform }) },
    { signal },
  );
  replyJson(response, 200, entries.map(historyEntryToJson));
}

async function postImagesCreate(context: ReplyContext): Promise<void> {
  const { query, version } = context;
  const platform = version.atLeast("1.32") ? platformFromText(text(query, "platform")) : undefined;
  const options = platform === undefined ? {} : { platform };
  if (text(query, "fromImage") !== "") {
    await pullImage(context, options);
  } else {
    await importImage(context, options);
  }
}

type PlatformOption = { readonly platform?: NonNullable<ReturnType<typeof platformFromText>> };

async function pullImage(context: ReplyContext, options: PlatformOption): Promise<void> {
  const { request, query, signal, services, response } = context;
  const reference = pullReference(text(query, "fromImage"), text(query, "tag"));
  if (!namesOneImage(reference)) {
    await refuse(context, "docker pull --all-tags", "name a tag");
  }
  const auth = registryAuthFromHeader(request.headers["x-registry-auth"]);
  const output = new ProgressStream(response, signal);
  try {
    const messages = services.backend.images.pullImage(
      { reference, ...options, ...(auth === undefined ? {} : { auth }) },
      { signal },
    );
    let ended = false;
    for await (const { message } of messages) {
      if (message.case === "progress") {
        await output.write(progressToJson(message.value));
      }
      ended ||= message.case === "end";
    }
    if (!ended) {
      throw systemError("the backend ended a pull without telling its result");
    }
  } catch (error) {
    if (!output.begun) {
      throw error;
    }
    await output.writeError(error);
  }
  output.end();
}

async function importImage(context: ReplyContext, options: PlatformOption): Promise<void> {
  const { request, query, signal, services, response } = context;
  const source = text(query, "fromSrc");
  if (source !== "-") {
    await refuse(context, "docker import from a URL", "download the archive and import the file");
  }
  const { imageId } = await services.backend.images.importImage(
    uploadOf(request, {
      reference: namedReference(text(query, "repo"), text(query, "tag")),
      comment: text(query, "message") || `Imported from ${source}`,
      changes: query.getAll("changes"),
      ...options,
    }),
    { signal },
  );
  const output = new ProgressStream(response, signal);
  await output.write({ status: imageId });
  output.end();
}

/** Errors are always in band here, as in dockerd: its clients do not look at the status. */
async function postImagesLoad(context: ReplyContext): Promise<void> {
  const { request, query, version, signal, services, response } = context;
  const platforms = version.atLeast("1.48") ? query.getAll("platform") : [];
  if (platforms.length > 1) {
    throw invalid("multiple platform parameters not supported");
  }
  const platform = platformFromJson(platforms[0] ?? "");
  const quiet = flagOr(query, "quiet", true);
  const output = new ProgressStream(response, signal);
  try {
    const messages = services.backend.images.loadImage(
      uploadOf(request, platform === undefined ? {} : { platform }),
      { signal },
    );
    let ended = false;
    for await (const { message } of messages) {
      if (message.case === "progress" && !quiet) {
        await output.write(progressToJson(message.value));
      } else if (message.case === "loaded") {
        const { reference, imageId } = message.value;
        const what = reference === "" ? `image ID: ${imageId}` : `image: ${reference}`;
        await output.write({ stream: `Loaded ${what}\n` });
      }
      ended ||= message.case === "end";
    }
    if (!ended) {
      throw systemError("the backend ended a load without telling its result");
    }
  } catch (error) {
    await output.writeError(error);
  }
  output.end();
}

async function postImagesPrune({ query, signal, services, response }: ReplyContext): Promise<void> {
  const { removed, spaceReclaimed } = await services.backend.images.pruneImages(
    { filters: readFilters(query, filterKeys.imagesToPrune) },
    { signal },
  );
  const deleted = removed.map(removedImageToJson);
  replyJson(response, 200, {
    ImagesDeleted: deleted.length === 0 ? null : deleted,
    SpaceReclaimed: spaceReclaimed,
  });
}

async function postImagesTag(context: ReplyContext): Promise<void> {
  const { query, services, response } = context;
  const target = namedReference(text(query, "repo"), text(query, "tag"));
  if (target === "") {
    throw invalid("invalid reference format");
  }
  await services.backend.images.tagImage({ source: nameOf(context), target });
  replyEmpty(response, 201);
}

async function deleteImages(context: ReplyContext): Promise<void> {
  const { query, version, services, response } = context;
  const image = nameOf(context);
  if (image.trim() === "") {
    throw invalid("image name cannot be blank");
  }
  if (version.atLeast("1.50") && query.has("platforms")) {
    await refuse(context, "docker image rm --platform"); // Removing more than was asked for would be worse.
  }
  const { removed } = await services.backend.images.removeImage({
    image,
    force: flag(query, "force"),
    noPrune: flag(query, "noprune"),
  });
  replyJson(response, 200, removed.map(removedImageToJson));
}

/** The messages of an upload: what it is, the body, and the word that nothing is missing. */
async function* uploadOf<Open>(
  request: IncomingMessage,
  open: Open,
): AsyncGenerator<
  | { readonly message: { readonly case: "open"; readonly value: Open } }
  | { readonly message: { readonly case: "chunk"; readonly value: Uint8Array } }
  | { readonly message: { readonly case: "end"; readonly value: Record<string, never> } }
> {
  yield { message: { case: "open", value: open } };
  // The backend may refuse before it has read everything; the refusal still has to be written on this socket.
  for await (const value of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    yield { message: { case: "chunk", value } };
  }
  yield { message: { case: "end", value: {} } };
}

function addFilterValue(filters: Record<string, StringList>, key: string, value: string): void {
  const list = filters[key];
  filters[key] = { $typeName: "sockerless.backend.v1.StringList", values: [...(list?.values ?? []), value] };
}

function nameOf({ parameters }: ReplyContext): string {
  return parameters["name"] ?? "";
}
