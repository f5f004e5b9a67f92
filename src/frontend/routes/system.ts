/** `/_ping`, `/version`, `/info`, `/auth`, and what exists in Docker around containers and is not ours to have. */
import { create } from "@bufbuild/protobuf";

import { notFound, unavailable } from "../../common/errors.ts";
import { GetDiskUsageResponseSchema } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { diskUsageToJson } from "../convert/disk-usage.ts";
import { infoToJson, versionToJson } from "../convert/system.ts";
import { readJsonBody } from "../json-body.ts";
import { notBuilt } from "../not-built.ts";
import { registryAuthFromJson } from "../registry-auth.ts";
import { replyEmpty, replyJson } from "../reply.ts";
import type { ReplyContext } from "../request-context.ts";
import { builtBackends, type HttpMethod, type Route } from "../router.ts";

/** The routes of the system as a whole. */
export const systemRoutes: readonly Route[] = [
  { method: "GET", path: "/_ping", answeredBy: "frontend", handler: ping },
  { method: "HEAD", path: "/_ping", answeredBy: "frontend", handler: ping },
  { method: "GET", path: "/version", answeredBy: builtBackends, handler: getVersion },
  { method: "GET", path: "/info", answeredBy: builtBackends, handler: getInfo },
  { method: "POST", path: "/auth", answeredBy: builtBackends, handler: postAuth },
  { method: "GET", path: "/system/df", answeredBy: builtBackends, handler: getDiskUsage },
  { method: "OPTIONS", path: "/{path}", answeredBy: "frontend", handler: options },

  {
    method: "GET",
    path: "/plugins",
    answeredBy: "frontend",
    note: "There are none.",
    handler: getPlugins,
  },
  notBuilt("GET", "/plugins/privileges", "docker plugin"),
  {
    method: "GET",
    path: "/plugins/{name}/json",
    answeredBy: "frontend",
    note: "There are none; docker inspect asks for one when nothing else has the name.",
    handler: getPlugin,
  },
  notBuilt("DELETE", "/plugins/{name}", "docker plugin"),
  notBuilt("POST", "/plugins/{name}", "docker plugin"),
];

const swarmEndpoints: readonly (readonly [HttpMethod, string])[] = [
  ["GET", "/swarm"],
  ["POST", "/swarm/init"],
  ["POST", "/swarm/join"],
  ["GET", "/swarm/unlockkey"],
  ["POST", "/swarm/update"],
  ["POST", "/swarm/unlock"],
  ...["services", "nodes", "tasks", "secrets", "configs"].flatMap((kind) => {
    const methods: readonly HttpMethod[] = ["GET", "POST", "DELETE"];
    return [["GET", `/${kind}`] as const, ...methods.map((method) => [method, `/${kind}/{path}`] as const)];
  }),
];

/** The routes of a swarm, which this never is part of: dockerd's answers where it is not either. */
export const swarmRoutes: readonly Route[] = [
  swarmRoute("POST", "/swarm/leave", "This node is not part of a swarm"),
  ...swarmEndpoints.map(([method, path]) =>
    swarmRoute(
      method,
      path,
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    ),
  ),
];

/** No call to the backend: a client that pings wants to know whether the API is there. */
async function ping({ request, response }: ReplyContext): Promise<void> {
  response.writeHead(200, {
    "Builder-Version": "1",
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
  replyJson(response, 200, infoToJson(await services.backend.system.getInfo({}, { signal }), version));
}

async function getDiskUsage({ query, version, signal, services, response }: ReplyContext): Promise<void> {
  const types = version.atLeast("1.42") ? query.getAll("type") : [];
  const wanted = types.filter((type) => type !== "build-cache"); // There is no builder, and so nothing to count.
  const isAll = types.length === 0;
  const usage =
    isAll || wanted.length > 0
      ? await services.backend.system.getDiskUsage({ types: wanted }, { signal })
      : create(GetDiskUsageResponseSchema);
  const wants = (type: string): boolean => isAll || types.includes(type);
  replyJson(response, 200, diskUsageToJson(usage, wants, version));
}

async function postAuth({ request, signal, services, response }: ReplyContext): Promise<void> {
  const auth = registryAuthFromJson(await readJsonBody(request, { anyContentType: true }));
  const { status, identityToken } = await services.backend.system.authenticate({ auth }, { signal });
  replyJson(response, 200, { IdentityToken: identityToken, Status: status });
}

async function options({ response }: ReplyContext): Promise<void> {
  replyEmpty(response, 200);
}

async function getPlugins({ response }: ReplyContext): Promise<void> {
  replyJson(response, 200, []);
}

async function getPlugin({ parameters }: ReplyContext): Promise<void> {
  throw notFound(`plugin "${parameters["name"]}" not found`);
}

function swarmRoute(method: HttpMethod, path: string, message: string): Route {
  return {
    method,
    path,
    answeredBy: [],
    note: "There is no swarm: refused with 503.",
    handler: async () => {
      throw unavailable(message);
    },
  };
}
