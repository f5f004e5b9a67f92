import type { NetworkRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { NetworkFabric } from "../common/driver.ts";
import { fromHostError, type HostClient } from "./host-client.ts";

/** Interface names have at most 15 characters: `skl` and 12 digits of the network's ID. */
export function bridgeName(network: NetworkRecord): string {
  return `skl${(network.network?.id ?? "").slice(0, 12)}`;
}

/** One bridge per Docker network; `host` and `none` need nothing. */
export function localNetworks(host: HostClient["client"]): NetworkFabric {
  return {
    async ensure(record) {
      const network = record.network;
      const pool = network?.pools[0];
      if (network === undefined || network.driver !== "bridge" || pool === undefined) {
        return "";
      }
      const bridge = bridgeName(record);
      const prefix = pool.subnet.slice(pool.subnet.indexOf("/"));
      try {
        await host.ensureNetwork({
          networkId: network.id,
          bridge,
          gateway: `${pool.gateway}${prefix}`,
          internal: network.internal,
          isolate: true,
        });
      } catch (error) {
        throw fromHostError(error);
      }
      return bridge;
    },
    async remove(record) {
      try {
        await host.removeNetwork({ networkId: record.network?.id ?? "", bridge: bridgeName(record) });
      } catch (error) {
        throw fromHostError(error);
      }
    },
    async usedRoutes() {
      try {
        return (await host.inspectMachine({})).routes;
      } catch (error) {
        throw fromHostError(error);
      }
    },
  };
}
