/**
 * Networks of this backend, which do not exist in Azure: addresses are virtual, agents resolve names, and connectivity
 * is determined by the tunnels that agents open for each other.
 */
import type { AddressPool, NetworkFabric } from "../driver/networks.ts";
import { nothingFound } from "../driver/ready-made-roles.ts";

/**
 * The default bridge has Docker's own pool; user-defined networks are slices of one pool, which bounds their number.
 */
const addressPools: readonly AddressPool[] = [
  { base: "172.17.0.0/16", size: 16 },
  { base: "172.18.0.0/16", size: 24 },
];

/** The networks of this backend, which are only records. Calls never fail. */
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
