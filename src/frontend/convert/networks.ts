/** Networks in a list and in an inspect. */
import type { IpamPool, Network, NetworkMember } from "../../gen/sockerless/backend/v1/network_pb.ts";
import { mapOrNull, rfc3339Nano, unlessEmpty } from "./json-values.ts";

/**
 * A network as inspect and list have it.
 *
 * @param withMembers whether the containers on it are told; a list does so until API 1.27
 */
export function networkToJson(network: Network, withMembers: boolean): Record<string, unknown> {
  return {
    Name: network.name,
    Id: network.id,
    Created: rfc3339Nano(network.created),
    Scope: network.scope,
    Driver: network.driver,
    EnableIPv4: true,
    EnableIPv6: network.enableIpv6,
    IPAM: {
      Driver: network.ipamDriver,
      Options: mapOrNull(network.ipamOptions),
      Config: network.pools.map(poolToJson),
    },
    Internal: network.internal,
    Attachable: network.attachable,
    Ingress: false,
    ConfigFrom: { Network: "" },
    ConfigOnly: false,
    Containers: withMembers ? membersToJson(network.containers) : {},
    Options: network.options,
    Labels: network.labels,
  };
}

function poolToJson(pool: IpamPool): Record<string, unknown> {
  return {
    Subnet: unlessEmpty(pool.subnet),
    IPRange: unlessEmpty(pool.ipRange),
    Gateway: unlessEmpty(pool.gateway),
  };
}

function membersToJson(members: Readonly<Record<string, NetworkMember>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(members).map(([id, member]) => [
      id,
      {
        Name: member.name,
        EndpointID: member.endpointId,
        MacAddress: member.macAddress,
        IPv4Address: member.ipv4Address,
        IPv6Address: member.ipv6Address,
      },
    ]),
  );
}
