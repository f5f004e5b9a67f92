/**
 * Networks of this backend: nothing in Kubernetes. Addresses of endpoints are virtual; containers reach one another at the
 * addresses of their pods, which each is told by its agent under the names of its networks alone.
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
export const kubernetesNetworks: NetworkFabric = {
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

/** Networks are names alone: a pod reaches every other of the cluster, and the world. */
export function internalNetworks(isInternal: (network: string) => boolean): CloudSetting {
  return {
    name: "docker network create --internal",
    why: "no NetworkPolicy is made yet: a pod keeps its way out",
    isSet: (_host, { endpoints }) => Object.keys(endpoints).some(isInternal),
  };
}
