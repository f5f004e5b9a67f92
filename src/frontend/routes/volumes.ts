/** `/volumes`. */
import { create } from "@bufbuild/protobuf";

import { systemError, unavailable } from "../../common/errors.ts";
import { StringListSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { Volume } from "../../gen/sockerless/backend/v1/volume_pb.ts";
import { readBody } from "../bodies/read-body.ts";
import { volumeToJson } from "../convert/volumes.ts";
import { readFilters } from "../filters.ts";
import { flag } from "../http/query.ts";
import { inTurn } from "../http/in-turn.ts";
import { replyEmpty, replyJson, replyLongJson } from "../http/reply.ts";
import type { ReplyContext } from "../request-context.ts";
import type { Route } from "../router.ts";

/** The routes of volumes, in the order in which they are tried. */
export const volumeRoutes: readonly Route[] = [
  { method: "GET", path: "/volumes", handler: inTurn(getVolumesList) },
  { method: "GET", path: "/volumes/{name}", handler: inTurn(getVolumesByName) },
  { method: "POST", path: "/volumes/create", handler: postVolumesCreate },
  { method: "POST", path: "/volumes/prune", handler: postVolumesPrune },
  {
    method: "PUT",
    path: "/volumes/{name}",
    since: "1.42",
    answeredBy: "nobody",
    note: "Cluster volumes only, which need a swarm: refused with 503.",
    handler: putVolumes,
  },
  { method: "DELETE", path: "/volumes/{name}", handler: deleteVolumes },
];

async function getVolumesList({ query, signal, services, response }: ReplyContext): Promise<void> {
  const filters = readFilters(query, undefined, "error reading volume filters: invalid filter");
  const { volumes, warnings } = await services.backend.volumes.listVolumes({ filters }, { signal });
  await replyLongJson(response, { Volumes: volumes.values().map(volumeToJson), Warnings: warnings });
}

async function getVolumesByName({ parameters, signal, services, response }: ReplyContext): Promise<void> {
  const name = parameters["name"] ?? "";
  const { volume } = await services.backend.volumes.inspectVolume({ name }, { signal });
  replyJson(response, 200, volumeReply(volume));
}

async function postVolumesCreate(context: ReplyContext): Promise<void> {
  const { signal, services, response } = context;
  const { fields } = await readBody(context, "createVolume", { optional: true });
  const { volume } = await services.backend.volumes.createVolume(fields, { signal });
  replyJson(response, 201, volumeReply(volume));
}

async function postVolumesPrune(context: ReplyContext): Promise<void> {
  const { query, version, signal, services, response } = context;
  const filters = readFilters(query);
  if (version.before("1.42")) {
    // Such clients mean all unused volumes: there was no other prune.
    filters["all"] = create(StringListSchema, { values: ["true"] });
  }
  const { removed, spaceReclaimed } = await services.backend.volumes.pruneVolumes({ filters }, { signal });
  replyJson(response, 200, { VolumesDeleted: removed, SpaceReclaimed: spaceReclaimed });
}

async function putVolumes(): Promise<void> {
  throw unavailable("volume update only valid for cluster volumes, but swarm is unavailable");
}

async function deleteVolumes({ parameters, query, signal, services, response }: ReplyContext): Promise<void> {
  const name = parameters["name"] ?? "";
  await services.backend.volumes.removeVolume({ name, force: flag(query, "force") }, { signal });
  replyEmpty(response, 204);
}

function volumeReply(volume: Volume | undefined): Record<string, unknown> {
  if (volume === undefined) {
    throw systemError("the backend answered without a volume");
  }
  return volumeToJson(volume);
}
