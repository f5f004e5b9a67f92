/** RPC implementation of NetworkService. */
import type { ServiceImpl } from "@connectrpc/connect";

import type { NetworkService } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { OneAtATime } from "../../concurrency/one-at-a-time.ts";
import type { EngineContext } from "../context.ts";
import { connectNetwork, disconnectNetwork } from "../networks/connect-network.ts";
import { findNetwork, listNetworks, membersByNetwork, withMembers } from "../networks/decisions/networks.ts";
import { createNetwork, removeNetwork } from "../networks/network-lifecycle.ts";
import { pruneNetworks } from "../networks/prune-networks.ts";

/** Implements the service for an engine. */
export function networkService(context: EngineContext): ServiceImpl<typeof NetworkService> {
  const { state } = context;
  const prunes = new OneAtATime();
  return {
    listNetworks: ({ filters }) => ({ networks: [...listNetworks(state, filters)] }),
    inspectNetwork: ({ network }) => {
      const found = findNetwork(state, network);
      return { network: withMembers(found, membersByNetwork(state, found.network.name)) };
    },
    createNetwork: (request) => createNetwork(context, request),
    removeNetwork: async ({ network }, call) => {
      await removeNetwork(context, network, call.signal);
      return {};
    },
    connectNetwork: async ({ network, container, endpoint }, call) => {
      await connectNetwork(context, network, container, endpoint, call.signal);
      return {};
    },
    disconnectNetwork: async ({ network, container, force }, call) => {
      await disconnectNetwork(context, network, container, force, call.signal);
      return {};
    },
    pruneNetworks: async ({ filters }, call) => ({
      removed: [...(await prunes.run(() => pruneNetworks(context, filters, call.signal)))],
    }),
  };
}
