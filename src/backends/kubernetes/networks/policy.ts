/** The NetworkPolicy of a network, as it is made and read. Pure. */
import { create, fromJsonString, toJsonString } from "@bufbuild/protobuf";
import type { V1NetworkPolicy } from "@kubernetes/client-node";

import { shortId } from "../../../common/ids.ts";
import { type Network, NetworkSchema } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import {
  type ContainerRecord,
  type NetworkRecord,
  NetworkRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import { agentPort } from "../../cloud/agents/agent-port.ts";
import { instanceLabel, instanceValue } from "../names.ts";

/** The annotation with the network itself, as JSON. */
const networkAnnotation = "sockerless/network";
const member = "member";

/** The label of the pods on a network. */
export function networkLabel(networkId: string): string {
  return `sockerless/network-${shortId(networkId)}`;
}

/** The label, with its value, of a pod on a network. */
export function memberLabel(networkId: string): Record<string, string> {
  return { [networkLabel(networkId)]: member };
}

/** The labels of a container's pod for the networks that it is on. */
export function networkLabels({ endpoints }: Pick<ContainerRecord, "endpoints">): Record<string, string> {
  return Object.fromEntries(
    Object.values(endpoints)
      .map(({ networkId }) => [networkLabel(networkId), member] as const)
      .sort(([one], [other]) => (one < other ? -1 : 1)),
  );
}

/** The name of a network's policy. */
export function policyName(networkId: string): string {
  return `sockerless-${shortId(networkId)}`;
}

/** The place of a policy. */
export interface PolicySettings {
  readonly namespace: string;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  /** Agents are dialled at the addresses of their pods. */
  readonly isDirect: boolean;
  /** TCP port at which agents call; absent: they do not. */
  readonly callbackPort?: number | undefined;
}

/** Ports of name servers. */
const dnsPorts = ["UDP", "TCP"].map((protocol) => ({ protocol, port: 53 }));

/**
 * The policy of a network: its pods are reached by one another alone, but for their agents where those are dialled. Those of an
 * internal one reach nobody else, but for the backend that their agents call. Policies add up, so that a pod on two networks has
 * what either lets.
 */
export function policyOf(
  network: Network,
  { namespace, instance, isDirect, callbackPort }: PolicySettings,
): V1NetworkPolicy {
  const calls = callbackPort === undefined ? [] : [{ ports: [{ port: callbackPort }, ...dnsPorts] }];
  const members = [{ podSelector: { matchLabels: memberLabel(network.id) } }];
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: {
      name: policyName(network.id),
      namespace,
      labels: { [instanceLabel]: instanceValue(instance) },
      annotations: { [networkAnnotation]: toJsonString(NetworkSchema, network) },
    },
    spec: {
      podSelector: members[0]?.podSelector ?? {},
      policyTypes: ["Ingress", "Egress"],
      ingress: [
        {
          _from: members, // The library's name for `from`.
        },
        ...(isDirect ? [{ ports: [{ port: agentPort }] }] : []),
      ],
      egress: network.internal ? [{ to: members }, ...calls] : [{}],
    },
  };
}

/** The network of a policy; undefined: it has none, or somebody has changed it. */
export function networkOf({ metadata }: V1NetworkPolicy): NetworkRecord | undefined {
  const { name = "", annotations = {} } = metadata ?? {};
  try {
    const network = fromJsonString(NetworkSchema, annotations[networkAnnotation] ?? "", {
      ignoreUnknownFields: true,
    });
    return policyName(network.id) === name
      ? create(NetworkRecordSchema, { network, driverReference: name })
      : undefined;
  } catch {
    return undefined;
  }
}
