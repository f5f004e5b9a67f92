/**
 * Networks of this backend: nothing in Azure. Addresses are virtual, names are the agents' own, and what is on a network is
 * decided by the tunnels that agents open for one another.
 */
import type { CloudSetting } from "../cloud/ready-made/setting-rules.ts";
import type { AddressPool, NetworkFabric } from "../driver/networks.ts";
import { nothingFound } from "../driver/ready-made-roles.ts";

/** The default bridge has Docker's own pool; user-defined networks are slices of one, and no more than it holds. */
const addressPools: readonly AddressPool[] = [
  { base: "172.17.0.0/16", size: 16 },
  { base: "172.18.0.0/16", size: 24 },
];

/** The networks of this backend: records alone. No call of it fails. */
export const acaNetworks: NetworkFabric = {
  addressPools,
  bridgeSettings: "ignore",
  endpointAddresses: "virtual",
  inUseMessage: "network has active endpoints",
  ensure: () => Promise.resolve(""),
  remove: () => Promise.resolve(),
  found: nothingFound,
  connect: () => Promise.resolve(),
  disconnect: () => Promise.resolve(),
  renamed() {},
  usedRoutes: nothingFound,
};

/** Nothing keeps a job from its way out, on whatever network its container is. */
export function internalNetworks(isInternal: (network: string) => boolean): CloudSetting {
  return {
    name: "docker network create --internal",
    why: "a job keeps its way out, through which its agent calls",
    isSet: (_host, { endpoints }) => Object.keys(endpoints).some(isInternal),
  };
}
