/** Interfaces of containers, in the form for the host process. */
import type { MessageInitShape } from "@bufbuild/protobuf";

import type { NetworkEndpoint } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { InterfaceSchema } from "../../gen/sockerless/host/v1/host_pb.ts";
import type { NetworkRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import { bridgeOptionsOf, endpointOptionsOf } from "../model/bridge-options.ts";

/** The interface of an endpoint with addresses, without a default route. */
export function interfaceOf(
  endpoint: NetworkEndpoint,
  { network, driverReference }: NetworkRecord,
): MessageInitShape<typeof InterfaceSchema> {
  const bridge = bridgeOptionsOf(network?.options ?? {}, network?.internal ?? false);
  const { interfaceName, sysctls } = endpointOptionsOf(endpoint.config?.driverOpts ?? {});
  return {
    networkId: endpoint.networkId,
    bridge: driverReference,
    address: `${endpoint.ipAddress}/${endpoint.ipPrefixLen}`,
    mac: endpoint.macAddress,
    name: interfaceName,
    prefix: bridge.interfacePrefix,
    mtu: bridge.mtu,
    sysctls: [...sysctls],
    apart: !bridge.interconnected,
  };
}
