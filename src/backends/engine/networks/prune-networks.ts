/** `docker network prune`. */
import { create } from "@bufbuild/protobuf";

import { messageOf } from "../../../common/errors.ts";
import type { StringList } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { NetworkSchema } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import type { EngineContext } from "../context.ts";
import { Filters } from "../../model/filters.ts";
import { nanosecondsOf } from "../../model/records.ts";
import { untilOf } from "../../model/until-filter.ts";
import { activeEndpoints, removeNetwork } from "./network-lifecycle.ts";
import { builtinNetworks, isMade } from "./decisions/networks.ts";

/**
 * Removes all unused networks.
 *
 * @returns the names of removed networks
 * @throws invalid: a filter
 */
export async function pruneNetworks(
  context: EngineContext,
  requested: Readonly<Record<string, StringList>>,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const filters = new Filters(requested, ["label", "label!", "until"]);
  const until = untilOf(filters, context.clock.nowMs());
  const doomed = [...context.state.networks.values()].filter((record) => {
    const { id, name, labels, created, configOnly } = record.network ?? create(NetworkSchema);
    const isNewer = until !== undefined && created !== undefined && nanosecondsOf(created) > until;
    return (
      isMade(record) &&
      !builtinNetworks.has(name) &&
      !configOnly &&
      !isNewer &&
      filters.matchesLabels(labels) &&
      activeEndpoints(context.state, id).length === 0
    );
  });
  const removed: string[] = [];
  for (const { network } of doomed) {
    if (signal.aborted || network === undefined) {
      break;
    }
    try {
      await removeNetwork(context, network.id);
      removed.push(network.name);
    } catch (error) {
      context.logger.warn({ err: error, network: network.name }, `cannot prune: ${messageOf(error)}`);
    }
  }
  await context.state.commit((change) =>
    change.event({ type: "network", action: "prune", actorId: "", attributes: { reclaimed: "0" } }),
  );
  return removed;
}
