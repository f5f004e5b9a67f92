/** `/networks`. */
import { invalid, notFound, systemError } from "../../common/errors.ts";
import { endpointConfigFromJson } from "../convert/endpoints.ts";
import { JsonFields } from "../convert/json-fields.ts";
import { listOrNull } from "../convert/json-values.ts";
import { createNetworkRequestFromJson, networkToJson } from "../convert/networks.ts";
import { filterKeys, readFilters } from "../filters.ts";
import { readJsonBody } from "../json-body.ts";
import { text } from "../query.ts";
import { replyEmpty, replyJson } from "../reply.ts";
import type { ReplyContext } from "../request-context.ts";
import { builtBackends, type Route } from "../router.ts";

/** The routes of networks, in the order in which they are tried. */
export const networkRoutes: readonly Route[] = [
  { method: "GET", path: "/networks", answeredBy: builtBackends, handler: getNetworksList },
  { method: "GET", path: "/networks/", answeredBy: builtBackends, handler: getNetworksList },
  { method: "GET", path: "/networks/{id}", answeredBy: builtBackends, handler: getNetwork },
  { method: "POST", path: "/networks/create", answeredBy: builtBackends, handler: postNetworkCreate },
  { method: "POST", path: "/networks/prune", answeredBy: builtBackends, handler: postNetworksPrune },
  { method: "POST", path: "/networks/{id}/connect", answeredBy: builtBackends, handler: postNetworkConnect },
  {
    method: "POST",
    path: "/networks/{id}/disconnect",
    answeredBy: builtBackends,
    handler: postNetworkDisconnect,
  },
  { method: "DELETE", path: "/networks/{id}", answeredBy: builtBackends, handler: deleteNetwork },
];

const truthTexts: ReadonlySet<string> = new Set(["1", "t", "true", "0", "f", "false"]);

async function getNetworksList({ query, version, signal, services, response }: ReplyContext): Promise<void> {
  const filters = readFilters(query, filterKeys.networks);
  const { networks } = await services.backend.networks.listNetworks({ filters }, { signal });
  replyJson(
    response,
    200,
    networks.map((each) => networkToJson(each, version.before("1.28"))),
  );
}

async function getNetwork({ parameters, query, signal, services, response }: ReplyContext): Promise<void> {
  const name = parameters["id"] ?? "";
  const verbose = text(query, "verbose");
  if (verbose !== "" && !truthTexts.has(verbose.toLowerCase())) {
    throw invalid(
      `invalid value for verbose: ${verbose}: strconv.ParseBool: parsing ${JSON.stringify(verbose)}: invalid syntax`,
    );
  }
  const scope = text(query, "scope");
  if (scope !== "" && scope !== "local") {
    throw notFound(`network ${name} not found`); // There is no swarm, so no other scope.
  }
  const { network } = await services.backend.networks.inspectNetwork({ network: name }, { signal });
  if (network === undefined) {
    throw systemError("the backend answered an inspect without a network");
  }
  replyJson(response, 200, networkToJson(network, true));
}

async function postNetworkCreate({ request, version, services, response }: ReplyContext): Promise<void> {
  const create = createNetworkRequestFromJson(await readJsonBody(request), version);
  const { id, warning } = await services.backend.networks.createNetwork(create);
  replyJson(response, 201, { Id: id, Warning: warning });
}

async function postNetworksPrune({ query, signal, services, response }: ReplyContext): Promise<void> {
  const filters = readFilters(query, filterKeys.networksToPrune);
  const { removed } = await services.backend.networks.pruneNetworks({ filters }, { signal });
  replyJson(response, 200, { NetworksDeleted: listOrNull(removed) });
}

async function postNetworkConnect(context: ReplyContext): Promise<void> {
  const { parameters, request, services, response } = context;
  const body = new JsonFields((await readJsonBody(request)) ?? {}, "ConnectOptions");
  const endpoint = body.object("EndpointConfig");
  await services.backend.networks.connectNetwork({
    network: parameters["id"] ?? "",
    container: body.string("Container"),
    ...(endpoint === undefined ? {} : { endpoint: endpointConfigFromJson(endpoint) }),
  });
  replyEmpty(response, 200);
}

async function postNetworkDisconnect(context: ReplyContext): Promise<void> {
  const { parameters, request, services, response } = context;
  const body = new JsonFields((await readJsonBody(request)) ?? {}, "DisconnectOptions");
  await services.backend.networks.disconnectNetwork({
    network: parameters["id"] ?? "",
    container: body.string("Container"),
    force: body.boolean("Force"),
  });
  replyEmpty(response, 200);
}

async function deleteNetwork({ parameters, services, response }: ReplyContext): Promise<void> {
  await services.backend.networks.removeNetwork({ network: parameters["id"] ?? "" });
  replyEmpty(response, 204);
}
