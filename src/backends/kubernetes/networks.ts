/**
 * A network is a label of its containers' pods, and a NetworkPolicy by which those are reached by one another alone: as far as
 * the cluster's CNI plugin enforces policies. Addresses of endpoints are virtual; containers reach one another at the addresses
 * of their pods, which each is told by its agent under the names of its networks alone.
 */
import type { ContainerRecord, NetworkRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { AddressPool, NetworkFabric } from "../driver/networks.ts";
import { nothingFound } from "../driver/ready-made-roles.ts";
import type { KubernetesClient } from "./api/client.ts";
import { isConflict, isMissing, KubernetesError } from "./api/errors.ts";
import { containerAnnotation, containerLabel, instanceLabel, instanceValue } from "./names.ts";
import { networkLabels, networkOf, policyName, policyOf } from "./networks/policy.ts";
import { ignoring } from "../../common/errors.ts";
import { shortId } from "../../common/ids.ts";

/** The default bridge has Docker's own pool; user-defined networks are slices of one, and no more than it holds. */
const addressPools: readonly AddressPool[] = [
  { base: "172.17.0.0/16", size: 16 },
  { base: "172.18.0.0/16", size: 24 },
];

/** Settings of {@link kubernetesNetworks}. */
export interface KubernetesNetworksOptions {
  readonly client: KubernetesClient;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  /** Networks are policies; else they are names alone. */
  readonly policies: boolean;
  /** Agents are dialled at the addresses of their pods. */
  readonly isDirect: boolean;
  /** TCP port at which agents call; undefined: they do not. */
  readonly callbackPort: number | undefined;
}

/** The networks of this backend. Failures are KubernetesErrors. */
export function kubernetesNetworks({
  client,
  instance,
  policies,
  isDirect,
  callbackPort,
}: KubernetesNetworksOptions): NetworkFabric {
  const { namespace, core, networking } = client;
  const hasPolicy = ({ network }: NetworkRecord): boolean => policies && network?.driver === "bridge";

  /** Gives the pods of a running container the labels of its networks. */
  const label = async (after: ContainerRecord): Promise<void> => {
    if (!policies) {
      return;
    }
    const labelSelector = [
      `${instanceLabel}=${instanceValue(instance)}`,
      `${containerLabel}=${shortId(after.id)}`,
    ].join(",");
    const { items } = await client.call("list pods", (options) =>
      core.listNamespacedPod({ namespace, labelSelector }, options),
    );
    for (const { metadata } of items) {
      const { name = "", labels = {}, annotations = {} } = metadata ?? {};
      if (annotations[containerAnnotation] !== after.id) {
        continue;
      }
      const others = Object.entries(labels).filter(([key]) => !key.startsWith("sockerless/network-"));
      const value = { ...Object.fromEntries(others), ...networkLabels(after) };
      const body = [{ op: "replace", path: "/metadata/labels", value }];
      await client
        .call("patch pods", (options) => core.patchNamespacedPod({ name, namespace, body }, options))
        .catch(ignoring(isMissing));
    }
  };

  return {
    addressPools,
    bridgeSettings: "ignore",
    endpointAddresses: "virtual",

    async ensure(record) {
      const { network } = record;
      if (network === undefined || !hasPolicy(record)) {
        return "";
      }
      const body = policyOf(network, { namespace, instance, isDirect, callbackPort });
      const name = policyName(network.id);
      try {
        await client.call("update networkpolicies", (options) =>
          networking.replaceNamespacedNetworkPolicy({ name, namespace, body }, options),
        );
        return name;
      } catch (error) {
        // Roles of earlier versions lack this right.
        if (!isMissing(error) && !(error instanceof KubernetesError && error.isUnauthorized)) {
          throw error;
        }
      }
      await client
        .call("create networkpolicies", (options) =>
          networking.createNamespacedNetworkPolicy({ namespace, body }, options),
        )
        .catch(ignoring(isConflict));
      return name;
    },

    async remove({ network, driverReference }) {
      if (network === undefined || (driverReference === "" && !policies)) {
        return;
      }
      const name = policyName(network.id);
      await client
        .call("delete networkpolicies", (options) =>
          networking.deleteNamespacedNetworkPolicy({ name, namespace }, options),
        )
        .catch(ignoring(isMissing));
    },

    async found() {
      if (!policies) {
        return [];
      }
      const labelSelector = `${instanceLabel}=${instanceValue(instance)}`;
      const { items } = await client.call("list networkpolicies", (options) =>
        networking.listNamespacedNetworkPolicy({ namespace, labelSelector }, options),
      );
      return items.map(networkOf).filter((record) => record !== undefined);
    },

    connect: ({ after }) => label(after),
    disconnect: ({ after }) => label(after),
    renamed() {},
    usedRoutes: nothingFound,
  };
}
