/** Endpoint settings and ports of a container, between Docker's JSON and the backend's messages. */

import { create } from "@bufbuild/protobuf";

import {
  type EndpointConfig,
  EndpointConfigSchema,
  type NetworkingConfig,
  NetworkingConfigSchema,
} from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { NetworkEndpoint, PortMapping } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { JsonFields } from "./json-fields.ts";
import { listOrNull, mapOrNull, unlessEmpty } from "./json-values.ts";

/** The driver option in which inspect shows the real address of a container whose `IPAddress` is virtual. */
const addressOption = "com.sockerless.address";
/** The prefix length of every IPv6 subnet in a cloud. RFC 4291, section 2.5.4. */
const ipv6SubnetBits = 64;

/** Reads `NetworkingConfig` of a create request. */
export function networkingConfigFromJson(fields: JsonFields): NetworkingConfig {
  const path = fields.pathOf("EndpointsConfig");
  const endpoints = fields
    .entries("EndpointsConfig", "map[string]*network.EndpointSettings")
    .map(([network, value]) => [network, endpointConfigFromJson(new JsonFields(value ?? {}, path))] as const);
  return create(NetworkingConfigSchema, { endpoints: Object.fromEntries(endpoints) });
}

/** Reads a client's settings of one endpoint; the daemon fills the rest of `EndpointSettings`. */
export function endpointConfigFromJson(fields: JsonFields): EndpointConfig {
  const ipam = fields.object("IPAMConfig");
  return create(EndpointConfigSchema, {
    hasIpamConfig: ipam !== undefined,
    ipv4Address: ipam?.string("IPv4Address") ?? "",
    ipv6Address: ipam?.string("IPv6Address") ?? "",
    linkLocalIps: ipam?.strings("LinkLocalIPs") ?? [],
    links: fields.strings("Links"),
    aliases: fields.strings("Aliases"),
    macAddress: fields.string("MacAddress"),
    driverOpts: fields.stringMap("DriverOpts"),
    gwPriority: fields.int32("GwPriority"),
  });
}

/** The endpoints of an inspect, by network name. */
export function endpointsToJson(
  networks: Readonly<Record<string, NetworkEndpoint>>,
): Record<string, Record<string, unknown>> {
  return Object.fromEntries(Object.entries(networks).map(([name, each]) => [name, endpointToJson(each)]));
}

/** The endpoints in a list, which have fewer fields than those of an inspect. */
export function endpointSummariesToJson(
  networks: Readonly<Record<string, NetworkEndpoint>>,
): Record<string, Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(networks).map(([name, each]) => [
      name,
      { ...endpointToJson(each), Links: null, Aliases: null, DriverOpts: null, DNSNames: null },
    ]),
  );
}

/** Bound and exposed ports as in `NetworkSettings.Ports`: a list of bindings, or null where there is none. */
export function portMapToJson(ports: readonly PortMapping[]): Record<string, unknown> {
  const map: Record<string, { HostIp: string; HostPort: string }[] | null> = {};
  for (const { ip, privatePort, publicPort, type } of ports) {
    const key = `${privatePort}/${type}`;
    if (publicPort === 0) {
      map[key] ??= null;
    } else {
      const list = map[key] ?? [];
      list.push({ HostIp: ip, HostPort: String(publicPort) });
      map[key] = list;
    }
  }
  return map;
}

/** One port as a list shows it. */
export function portToJson({ ip, privatePort, publicPort, type }: PortMapping): Record<string, unknown> {
  return {
    IP: unlessEmpty(ip),
    PrivatePort: privatePort,
    PublicPort: publicPort === 0 ? undefined : publicPort,
    Type: type,
  };
}

function endpointToJson(endpoint: NetworkEndpoint): Record<string, unknown> {
  const config = endpoint.config ?? create(EndpointConfigSchema);
  return {
    IPAMConfig: ipamConfigToJson(config),
    Links: listOrNull(config.links),
    Aliases: listOrNull(config.aliases),
    MacAddress: endpoint.macAddress,
    DriverOpts: mapOrNull(driverOptions(endpoint, config)),
    GwPriority: config.gwPriority,
    NetworkID: endpoint.networkId,
    EndpointID: endpoint.endpointId,
    Gateway: endpoint.gateway,
    IPAddress: endpoint.ipAddress,
    IPPrefixLen: endpoint.ipPrefixLen,
    IPv6Gateway: endpoint.ipv6Gateway,
    ...globalIpv6Of(endpoint),
    DNSNames: listOrNull(endpoint.dnsNames),
  };
}

/** The IPv6 address: the endpoint's own, or the real one of a container whose `IPAddress` is virtual. */
export function globalIpv6Of(endpoint: NetworkEndpoint | undefined) {
  const { globalIpv6Address = "", globalIpv6PrefixLen = 0, reachableAddress = "" } = endpoint ?? {};
  // Not by Node's isIPv6: the first inspect would compile its regular expression, for 10 ms.
  return globalIpv6Address === "" && reachableAddress.includes(":")
    ? { GlobalIPv6Address: reachableAddress, GlobalIPv6PrefixLen: ipv6SubnetBits }
    : { GlobalIPv6Address: globalIpv6Address, GlobalIPv6PrefixLen: globalIpv6PrefixLen };
}

/** Shows the real address, where addresses are virtual, as a driver option: Docker has no field for it. */
function driverOptions(
  { reachableAddress }: NetworkEndpoint,
  { driverOpts }: EndpointConfig,
): Readonly<Record<string, string>> {
  return reachableAddress === "" ? driverOpts : { ...driverOpts, [addressOption]: reachableAddress };
}

function ipamConfigToJson(config: EndpointConfig): Record<string, unknown> | null {
  if (!config.hasIpamConfig) {
    return null;
  }
  return {
    IPv4Address: unlessEmpty(config.ipv4Address),
    IPv6Address: unlessEmpty(config.ipv6Address),
    LinkLocalIPs: config.linkLocalIps.length === 0 ? undefined : config.linkLocalIps,
  };
}
