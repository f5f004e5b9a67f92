import { create } from "@bufbuild/protobuf";

import { ownValue } from "../../common/own-value.ts";
import { type PublishedPort, PublishedPortSchema } from "../../gen/sockerless/host/v1/host_pb.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { NetworkPlan } from "../driver/workload-spec.ts";
import { bridgeOptionsOf } from "../model/bridge-options.ts";
import { defaultGatewayOf } from "../model/default-gateway.ts";
import { wantedPorts } from "../model/ports.ts";

/**
 * The ports that a container's shim listens on, if the container has interfaces of its own, at least one of them on a
 * network that is not internal. The shim forwards to the container's address on the network of the default route.
 */
export function publishedPorts(record: ContainerRecord, plan: NetworkPlan): PublishedPort[] {
  const joined = plan.kind === "networks" ? plan.networks : [];
  const endpoints = joined.flatMap(({ name, record: { network } }) => {
    const endpoint = ownValue(record.endpoints, name);
    return network === undefined || network.internal || endpoint === undefined ? [] : [{ network, endpoint }];
  });
  const gateway = defaultGatewayOf(record.endpoints);
  const leading = endpoints.find(({ endpoint }) => endpoint.gateway === gateway) ?? endpoints[0];
  if (leading === undefined) {
    return [];
  }
  const { network, endpoint } = leading;
  const { hostAddress } = bridgeOptionsOf(network.options, network.internal);
  return wantedPorts(record).map(({ containerPort, protocol, hostIp, hostPort, hostPortEnd }) =>
    create(PublishedPortSchema, {
      protocol,
      hostIp: hostIp || hostAddress,
      hostPort,
      hostPortEnd,
      containerPort,
      containerIp: endpoint.ipAddress,
    }),
  );
}
