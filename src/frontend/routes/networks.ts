/** `/networks`. */
import { invalid, notFound, systemError } from "../../common/errors.ts";
import { backendName } from "../backend/backend-name.ts";
import { readBody } from "../bodies/read-body.ts";
import { listOrNull } from "../convert/json-values.ts";
import { networkToJson } from "../convert/networks.ts";
import { readFilters } from "../filters.ts";
import { text } from "../http/query.ts";
import { inTurn } from "../http/in-turn.ts";
import { replyEmpty, replyJson, replyLongJson } from "../http/reply.ts";
import type { ReplyContext } from "../request-context.ts";
import type { Route } from "../router.ts";

/** One crowd, whichever path it takes. */
const getNetworks = inTurn(getNetworksList);

/** The routes of networks, in the order in which they are tried. */
export const networkRoutes: readonly Route[] = [
  { method: "GET", path: "/networks", handler: getNetworks },
  { method: "GET", path: "/networks/", handler: getNetworks },
  { method: "GET", path: "/networks/{id}", handler: inTurn(getNetworksById) },
  { method: "POST", path: "/networks/create", handler: postNetworksCreate },
  { method: "POST", path: "/networks/prune", handler: postNetworksPrune },
  { method: "POST", path: "/networks/{id}/connect", handler: postNetworksConnect },
  { method: "POST", path: "/networks/{id}/disconnect", handler: postNetworksDisconnect },
  { method: "DELETE", path: "/networks/{id}", handler: deleteNetworks },
];

const truthTexts: ReadonlySet<string> = new Set(["1", "t", "true", "0", "f", "false"]);

async function getNetworksList({ query, version, signal, services, response }: ReplyContext): Promise<void> {
  const filters = readFilters(query);
  const { networks } = await services.backend.networks.listNetworks({ filters }, { signal });
  await replyLongJson(
    response,
    networks.values().map((each) => networkToJson(each, version.before("1.28"))),
  );
}

async function getNetworksById({
  parameters,
  query,
  signal,
  services,
  response,
}: ReplyContext): Promise<void> {
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

async function postNetworksCreate(context: ReplyContext): Promise<void> {
  const { services, response } = context;
  const { fields } = await readBody(context, "createNetwork");
  const { id, warning } = await services.backend.networks.createNetwork(fields);
  replyJson(response, 201, { Id: id, Warning: warning });
}

async function postNetworksPrune(context: ReplyContext): Promise<void> {
  const { query, signal, services, response } = context;
  const filters = readFilters(query);
  const ids = await networkIdsByName(context);
  const { removed } = await services.backend.networks.pruneNetworks({ filters }, { signal });
  replyJson(response, 200, { NetworksDeleted: listOrNull(removed.map((name) => ids.get(name) ?? name)) });
}

/**
 * IDs of networks by name, for backends whose prune reports IDs (`aca`); Docker reports names. A network created since
 * may have taken a name.
 */
async function networkIdsByName(context: ReplyContext): Promise<ReadonlyMap<string, string>> {
  if ((await backendName(context)) !== "aca") {
    return new Map();
  }
  const { services, signal } = context;
  const { networks } = await services.backend.networks.listNetworks({}, { signal });
  return new Map(networks.map(({ name, id }) => [name, id]));
}

async function postNetworksConnect(context: ReplyContext): Promise<void> {
  const { parameters, signal, services, response } = context;
  const { fields } = await readBody(context, "connectNetwork");
  await services.backend.networks.connectNetwork({ network: parameters["id"] ?? "", ...fields }, { signal });
  replyEmpty(response, 200);
}

async function postNetworksDisconnect(context: ReplyContext): Promise<void> {
  const { parameters, signal, services, response } = context;
  const { fields } = await readBody(context, "disconnectNetwork");
  await services.backend.networks.disconnectNetwork(
    { network: parameters["id"] ?? "", ...fields },
    { signal },
  );
  replyEmpty(response, 200);
}

async function deleteNetworks({ parameters, signal, services, response }: ReplyContext): Promise<void> {
  await services.backend.networks.removeNetwork({ network: parameters["id"] ?? "" }, { signal });
  replyEmpty(response, 204);
}
