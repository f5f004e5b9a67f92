/** Networks: the body of a create, and their JSON in lists and inspects. */
import { create } from "@bufbuild/protobuf";

import {
  type CreateNetworkRequest,
  CreateNetworkRequestSchema,
  type IpamPool,
  IpamPoolSchema,
  type Network,
  type NetworkMember,
} from "../../gen/sockerless/backend/v1/network_pb.ts";
import type { ApiVersion } from "../api-version.ts";
import { JsonFields } from "./json-fields.ts";
import { mapOrNull, rfc3339Nano, unlessEmpty } from "./json-values.ts";

/**
 * Reads the body of `POST /networks/create`.
 *
 * @param version before API 1.48 `EnableIPv4` does not exist
 * @throws SockerlessError of kind `invalid`
 */
export function createNetworkRequestFromJson(body: unknown, version: ApiVersion): CreateNetworkRequest {
  const fields = new JsonFields(body ?? {}, "CreateRequest");
  const ipam = fields.object("IPAM");
  const enableIpv4 = version.atLeast("1.48") ? fields.optionalBoolean("EnableIPv4") : undefined;
  return create(CreateNetworkRequestSchema, {
    name: fields.string("Name"),
    driver: fields.string("Driver"),
    internal: fields.boolean("Internal"),
    attachable: fields.boolean("Attachable"),
    enableIpv6: fields.boolean("EnableIPv6"),
    ipamDriver: ipam?.string("Driver") ?? "",
    ipamOptions: ipam?.stringMap("Options") ?? {},
    pools: (ipam?.objects("Config") ?? []).map(poolFromJson),
    options: fields.stringMap("Options"),
    labels: fields.stringMap("Labels"),
    scope: fields.string("Scope"),
    ingress: fields.boolean("Ingress"),
    configOnly: fields.boolean("ConfigOnly"),
    configFrom: fields.object("ConfigFrom")?.string("Network") ?? "",
    ...(enableIpv4 === undefined ? {} : { enableIpv4 }),
  });
}

function poolFromJson(fields: JsonFields): IpamPool {
  return create(IpamPoolSchema, {
    subnet: fields.string("Subnet"),
    ipRange: fields.string("IPRange"),
    gateway: fields.string("Gateway"),
    auxiliaryAddresses: fields.stringMap("AuxiliaryAddresses"),
  });
}

/**
 * A network's JSON in inspect and list.
 *
 * @param withMembers whether its containers are included; in lists until API 1.27
 */
export function networkToJson(network: Network, withMembers: boolean): Record<string, unknown> {
  return {
    Name: network.name,
    Id: network.id,
    Created: rfc3339Nano(network.created),
    Scope: network.scope,
    Driver: network.driver,
    EnableIPv4: !network.ipv4Disabled,
    EnableIPv6: network.enableIpv6,
    IPAM: {
      Driver: network.ipamDriver,
      Options: mapOrNull(network.ipamOptions),
      Config: network.pools.map(poolToJson),
    },
    Internal: network.internal,
    Attachable: network.attachable,
    Ingress: false,
    ConfigFrom: { Network: network.configFrom },
    ConfigOnly: network.configOnly,
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
    AuxiliaryAddresses:
      Object.keys(pool.auxiliaryAddresses).length === 0 ? undefined : pool.auxiliaryAddresses,
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
