/** `/_ping`, `/version`, `/info`, `/auth`, and Docker's endpoints of swarm and plugins. */
import { readdir } from "node:fs/promises";

import { create } from "@bufbuild/protobuf";

import { notFound, unavailable } from "../../common/errors.ts";
import { GetDiskUsageResponseSchema } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { readBody } from "../bodies/read-body.ts";
import { callBuilder } from "../builder.ts";
import { diskUsageToJson } from "../convert/disk-usage.ts";
import { infoToJson, versionToJson } from "../convert/system.ts";
import { readFilters } from "../filters.ts";
import { notBuilt } from "../not-built.ts";
import { inTurn } from "../http/in-turn.ts";
import { replyEmpty, replyJson, replyLongJson } from "../http/reply.ts";
import type { ReplyContext } from "../request-context.ts";
import type { HttpMethod, Route } from "../router.ts";

/** The routes of the system as a whole. */
export const systemRoutes: readonly Route[] = [
  { method: "GET", path: "/_ping", answeredBy: "frontend", handler: getPing },
  { method: "HEAD", path: "/_ping", answeredBy: "frontend", handler: getPing },
  { method: "GET", path: "/version", handler: getVersion },
  { method: "GET", path: "/info", handler: getInfo },
  { method: "POST", path: "/auth", handler: postAuth },
  { method: "GET", path: "/system/df", handler: inTurn(getSystemDf) },
  { method: "OPTIONS", path: "/{path}", answeredBy: "frontend", handler: options },

  { method: "GET", path: "/plugins", answeredBy: "frontend", note: "There are none.", handler: getPlugins },
  notBuilt("GET", "/plugins/privileges", "docker plugin"),
  {
    method: "GET",
    path: "/plugins/{name}/json",
    answeredBy: "frontend",
    note: "There are none; docker inspect asks for one when nothing else has the name.",
    handler: getPluginsByName,
  },
  notBuilt("DELETE", "/plugins/{name}", "docker plugin"),
  notBuilt("POST", "/plugins/{name}", "docker plugin"),
];

const swarmEndpoints: readonly (readonly [HttpMethod, string])[] = [
  ["GET", "/swarm"],
  ["GET", "/swarm/unlockkey"],
  ["POST", "/swarm/update"],
  ["POST", "/swarm/unlock"],
  ...["services", "nodes", "tasks", "secrets", "configs"].flatMap((kind) => {
    const methods: readonly HttpMethod[] = ["GET", "POST", "DELETE"];
    return [["GET", `/${kind}`] as const, ...methods.map((method) => [method, `/${kind}/{path}`] as const)];
  }),
];

/** Error in place of dockerd's for a node outside a swarm, which would suggest this very command. */
const noSwarm = "sockerless takes part in no swarm";

/** The routes of swarm: answers of a dockerd that is not part of one. */
export const swarmRoutes: readonly Route[] = [
  swarmRoute("POST", "/swarm/leave", "This node is not part of a swarm"),
  swarmRoute("POST", "/swarm/init", noSwarm),
  swarmRoute("POST", "/swarm/join", noSwarm),
  ...swarmEndpoints.map(([method, path]) =>
    swarmRoute(
      method,
      path,
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    ),
  ),
];

/**
 * Answers without a call to the backend, whose availability is known.
 *
 * @throws SockerlessError of kind `unavailable` with the reason while it is not
 */
async function getPing({ request, response, services }: ReplyContext): Promise<void> {
  const absence = await services.presence.absence();
  if (absence !== undefined) {
    throw unavailable(absence);
  }
  response.writeHead(200, {
    "Builder-Version": services.startBuilder === undefined ? "1" : "2",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    Pragma: "no-cache",
    Swarm: "inactive",
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Length": request.method === "HEAD" ? 0 : 2,
  });
  response.end(request.method === "HEAD" ? "" : "OK");
}

async function getVersion({ signal, services, response }: ReplyContext): Promise<void> {
  replyJson(response, 200, versionToJson(await services.backend.system.getInfo({}, { signal })));
}

async function getInfo({ version, signal, services, response }: ReplyContext): Promise<void> {
  const [info, openFiles] = await Promise.all([
    services.backend.system.getInfo({}, { signal }),
    countOpenFiles(),
  ]);
  const waits = process.getActiveResourcesInfo().length;
  const frontend = { isDebugging: services.isDebugging, openFiles, waits };
  replyJson(response, 200, infoToJson(info, frontend, version));
}

/** The count that is under way: it takes a millisecond where thousands of clients are connected. */
let counting: Promise<number> | undefined;

/** Number of this process's open files; -1, as in dockerd, if the system does not provide it. One count for all who ask. */
async function countOpenFiles(): Promise<number> {
  counting ??= readdir("/dev/fd")
    .then(
      ({ length }) => length,
      () => -1,
    )
    .finally(() => {
      counting = undefined;
    });
  return await counting;
}

async function getSystemDf({ query, version, signal, services, response }: ReplyContext): Promise<void> {
  const types = version.atLeast("1.42") ? query.getAll("type") : [];
  const wanted = types.filter((type) => type !== "build-cache"); // The builder counts it.
  const isAll = types.length === 0;
  const usage =
    isAll || wanted.length > 0
      ? await services.backend.system.getDiskUsage({ types: wanted }, { signal })
      : create(GetDiskUsageResponseSchema);
  const wants = (type: string): boolean => isAll || types.includes(type);
  const buildCache = wants("build-cache") ? await buildCacheOf(services, signal) : [];
  await replyLongJson(response, diskUsageToJson(usage, buildCache, wants, version));
}

/** The records of the build cache. Does not start a builder that was never used. */
async function buildCacheOf(
  { startBuilder }: ReplyContext["services"],
  signal: AbortSignal,
): Promise<unknown[]> {
  const socket = await startBuilder?.({ onlyIfUsed: true });
  if (socket === undefined) {
    return [];
  }
  const { body } = await callBuilder(socket, "GET", "/build/usage", signal);
  return Array.isArray(body) ? body : [];
}

async function postAuth(context: ReplyContext): Promise<void> {
  const { signal, services, response } = context;
  const { fields } = await readBody(context, "authenticate", { anyContentType: true });
  const { status, identityToken } = await services.backend.system.authenticate(fields, { signal });
  replyJson(response, 200, { IdentityToken: identityToken, Status: status });
}

async function options({ response }: ReplyContext): Promise<void> {
  replyEmpty(response, 200);
}

async function getPlugins({ query, response }: ReplyContext): Promise<void> {
  readFilters(query, ["capability", "enabled"]);
  replyJson(response, 200, []);
}

async function getPluginsByName({ parameters }: ReplyContext): Promise<void> {
  throw notFound(`plugin "${parameters["name"]}" not found`);
}

function swarmRoute(method: HttpMethod, path: string, message: string): Route {
  return {
    method,
    path,
    answeredBy: "nobody",
    note: "There is no swarm: refused with 503.",
    handler: async () => {
      throw unavailable(message);
    },
  };
}
