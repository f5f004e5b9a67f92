/** `/images`: lists, inspects, tags, removals and prunes. */
import { create } from "@bufbuild/protobuf";

import { invalid, systemError } from "../../common/errors.ts";
import { StringListSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import {
  distributionToJson,
  historyEntryToJson,
  imageDetailToJson,
  imageSummaryToJson,
  removedImageToJson,
} from "../convert/images.ts";
import { namedReference } from "../convert/image-references.ts";
import { platformFromJson } from "../convert/platforms.ts";
import { readFilters } from "../filters.ts";
import { notBuilt, refuse } from "../not-built.ts";
import { flag, text } from "../http/query.ts";
import { registryAuthFromHeader } from "../registry-auth.ts";
import { inTurn } from "../http/in-turn.ts";
import { replyEmpty, replyJson, replyLongJson } from "../http/reply.ts";
import type { ReplyContext } from "../request-context.ts";
import type { Route } from "../router.ts";

/** The routes of images, in the order in which they are tried. */
export const imageRoutes: readonly Route[] = [
  { method: "GET", path: "/images/json", handler: inTurn(getImagesJson) },
  { ...notBuilt("GET", "/images/search", "docker search"), handler: getImagesSearch },
  { method: "GET", path: "/images/{name}/history", handler: inTurn(getImagesHistory) },
  { method: "GET", path: "/images/{name}/json", handler: inTurn(getImagesByName) },
  { method: "POST", path: "/images/prune", handler: postImagesPrune },
  { method: "POST", path: "/images/{name}/tag", handler: postImagesTag },
  { method: "DELETE", path: "/images/{name}", handler: deleteImages },
  { method: "GET", path: "/distribution/{name}/json", handler: getDistribution },
];

async function getImagesJson(context: ReplyContext): Promise<void> {
  const { query, version, signal, services, response } = context;
  const filters = readFilters(query);
  const oldFilter = version.before("1.41") ? text(query, "filter") : "";
  if (oldFilter !== "") {
    const values = [...(filters["reference"]?.values ?? []), oldFilter];
    filters["reference"] = create(StringListSchema, { values });
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
  await replyLongJson(
    response,
    images.values().map((each) => imageSummaryToJson(each, version)),
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
  if (platform !== undefined && flag(query, "manifests")) {
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

async function postImagesPrune({ query, signal, services, response }: ReplyContext): Promise<void> {
  const { removed, spaceReclaimed } = await services.backend.images.pruneImages(
    { filters: readFilters(query) },
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
  const platforms = version.atLeast("1.50") ? query.getAll("platforms").map(platformFromJson) : [];
  if (platforms.length > 1) {
    throw invalid("multiple platforms are not supported");
  }
  const [platform] = platforms;
  const { removed } = await services.backend.images.removeImage({
    image,
    force: flag(query, "force"),
    noPrune: flag(query, "noprune"),
    ...(platform === undefined ? {} : { platform }),
  });
  replyJson(response, 200, removed.map(removedImageToJson));
}

function nameOf({ parameters }: ReplyContext): string {
  return parameters["name"] ?? "";
}

/** Invalid filters are reported before the lack of a search. */
async function getImagesSearch(context: ReplyContext): Promise<void> {
  const filters = readFilters(context.query, ["is-automated", "is-official", "stars"]);
  for (const key of ["is-automated", "is-official", "stars"]) {
    const accepted = key === "stars" ? /^[+-]?\d+$/ : /^(0|1|true|false)$/;
    const wrong = filters[key]?.values.find((value) => !accepted.test(value));
    if (wrong !== undefined) {
      throw invalid(`invalid filter '${key}=${wrong}'`);
    }
  }
  await refuse(context, "docker search");
}
