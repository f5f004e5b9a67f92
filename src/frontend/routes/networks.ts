/** `/networks`. */
import { invalid, notFound, systemError } from "../../common/errors.ts";
import { networkToJson } from "../convert/networks.ts";
import { filterKeys, readFilters } from "../filters.ts";
import { notBuilt } from "../not-built.ts";
import { text } from "../query.ts";
import { replyJson } from "../reply.ts";
import type { ReplyContext } from "../request-context.ts";
import type { Route } from "../router.ts";

/** The routes of networks, in the order in which they are tried. */
export const networkRoutes: readonly Route[] = [
  { method: "GET", path: "/networks", answeredBy: ["local"], handler: getNetworksList },
  { method: "GET", path: "/networks/", answeredBy: ["local"], handler: getNetworksList },
  { method: "GET", path: "/networks/{id}", answeredBy: ["local"], handler: getNetwork },
  notBuilt("POST", "/networks/create", "docker network create"),
  notBuilt("POST", "/networks/prune", "docker network prune"),
  notBuilt("POST", "/networks/{id}/connect", "docker network connect"),
  notBuilt("POST", "/networks/{id}/disconnect", "docker network disconnect"),
  notBuilt("DELETE", "/networks/{id}", "docker network rm"),
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
