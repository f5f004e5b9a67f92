/** Validates requests for new networks. Pure. */
import { forbidden, invalid, notFound, notImplemented, SockerlessError } from "../../../../common/errors.ts";
import type { CreateNetworkRequest, IpamPool } from "../../../../gen/sockerless/backend/v1/network_pb.ts";
import type { NetworkFabric } from "../../../driver/networks.ts";
import { parseBoolean } from "../../../../common/go-values.ts";
import { longestName } from "../../../model/names.ts";
import { bridgeOptionsOf, iccOption, isBridgeOption } from "../../../model/bridge-options.ts";
import { type Cidr, formatCidr, overlaps, parseAddress, parseCidr, sizeOf } from "./cidr.ts";
import { builtinNetworks } from "./networks.ts";

/** Options for a network's IP versions. */
const ipv4Option = "com.docker.network.enable_ipv4";
const ipv6Option = "com.docker.network.enable_ipv6";

/** Options of Docker's bridge driver that are accepted with the values that hold on any backend. */
const neutralOptions: ReadonlyMap<string, readonly string[]> = new Map([
  ["com.docker.network.bridge.default_bridge", ["false"]],
  [iccOption, ["true", "1"]],
  ["com.docker.network.bridge.enable_ip_masquerade", ["true", "1"]],
  ["com.docker.network.bridge.gateway_mode_ipv4", ["nat"]],
  ["com.docker.network.bridge.host_binding_ipv4", ["0.0.0.0"]],
  ["com.docker.network.container_iface_prefix", ["eth"]],
  ["com.docker.network.driver.mtu", ["1500"]],
]);
const dockersOption = "com.docker.network.";
/** Drivers of networks and of IPAM. */
const knownDrivers: readonly (readonly string[])[] = [
  ["", "bridge"],
  ["", "default"],
];

/** Refuses invalid names and address pools. @throws invalid; forbidden: predefined names */
export function validateNameAndPools({ name, pools }: CreateNetworkRequest): void {
  if (builtinNetworks.has(name) || name === "default") {
    throw forbidden(`operation is not permitted on predefined ${name} network `);
  }
  const faults = pools.filter(isIpv4).flatMap(faultsOf);
  if (faults.length > 0) {
    throw invalid(`invalid network config:\n${faults.join("\n")}`);
  }
  if (name.trim() === "") {
    throw invalid("invalid name: name is empty");
  }
  if (name.length > longestName) {
    throw invalid(`invalid name: it has more than ${longestName} characters`);
  }
}

/**
 * Refuses a network that cannot be created.
 *
 * @param request with its IP versions resolved
 * @param backend the backend's name, for errors
 * @returns names of settings that are accepted but not applied
 * @throws invalid; not-found: a driver; forbidden: predefined drivers, or a swarm's; not-implemented, naming the
 *   setting
 */
export function validateNetwork(
  request: CreateNetworkRequest,
  backend: string,
  bridgeSettings: NetworkFabric["bridgeSettings"],
): readonly string[] {
  const { driver, ipamDriver, options, pools, enableIpv4, enableIpv6 } = request;
  if (driver === "host" || driver === "null") {
    throw forbidden(`only one instance of "${driver}" network is allowed`);
  }
  const unknownDriver = [driver, ipamDriver].find((name, at) => !knownDrivers[at]?.includes(name));
  if (unknownDriver !== undefined) {
    throw notFound(`plugin ${JSON.stringify(unknownDriver)} not found`);
  }
  if (request.ingress) {
    throw forbidden("Ingress network can only be global scope network");
  }
  if (request.scope === "swarm") {
    throw forbidden("cannot create a swarm scoped network when swarm is not active");
  }
  if (enableIpv4 === false && !enableIpv6) {
    throw invalid("IPv4 or IPv6 must be enabled");
  }
  const missing = [
    ...(enableIpv4 === false ? ["networks without IPv4"] : []),
    ...(enableIpv6 || !pools.every(isIpv4) ? ["IPv6 networks"] : []),
    ...Object.entries(options)
      .filter(([key]) => key !== ipv4Option && key !== ipv6Option) // Their values are in the request's own fields.
      .filter(([key, value]) => key.startsWith(dockersOption) && !neutralOptions.get(key)?.includes(value))
      .filter(([key, value]) =>
        bridgeSettings === "apply" ? !isBridgeOption(key, value) : key !== iccOption,
      )
      .map(([key, value]) => `the network option ${key}=${value}`),
  ];
  if (missing.length > 0 && bridgeSettings === "apply") {
    throw notImplemented(`the ${backend} backend does not support ${missing.join(", ")}`);
  }
  if (pools.filter(isIpv4).length > 1) {
    throw forbidden("bridge driver doesn't support multiple subnets");
  }
  if (bridgeSettings === "apply") {
    bridgeOptionsOf(options, request.internal); // refuses what it cannot read
  }
  return missing;
}

/**
 * A request with its IP versions resolved from fields and options.
 *
 * @throws invalid: an option that is not a boolean
 */
export function withIpVersions(request: CreateNetworkRequest): CreateNetworkRequest {
  const { [ipv4Option]: ipv4 = "true", [ipv6Option]: ipv6 = "false" } = request.options;
  return {
    ...request,
    enableIpv4: request.enableIpv4 ?? truthOf(ipv4Option, ipv4),
    enableIpv6: request.enableIpv6 || truthOf(ipv6Option, ipv6),
  };
}

function truthOf(option: string, value: string): boolean {
  try {
    return parseBoolean(value);
  } catch (cause) {
    throw new SockerlessError("invalid", `driver-opt ${JSON.stringify(option)} is not a valid bool`, cause);
  }
}

/** Whether a pool is an IPv4 pool, or a malformed one. */
export function isIpv4({ subnet }: IpamPool): boolean {
  return !subnet.includes(":");
}

/** The most auxiliary addresses of a subnet: each start on its network looks at them. */
const mostAuxiliary = 256;

function faultsOf(pool: IpamPool): string[] {
  const subnet = parsePrefix(pool.subnet);
  if (subnet === undefined) {
    return [`invalid subnet ${pool.subnet}: invalid CIDR block notation`];
  }
  const faults: string[] = [];
  if (pool.subnet !== formatCidr(subnet)) {
    faults.push(`invalid subnet ${pool.subnet}: it should be ${formatCidr(subnet)}`);
  }
  if (pool.ipRange !== "") {
    faults.push(...faultsOfRange(pool.ipRange, subnet));
  }
  if (pool.gateway !== "") {
    faults.push(
      ...faultOfAddress(pool.gateway, subnet).map((fault) => `invalid gateway ${pool.gateway}: ${fault}`),
    );
  }
  const auxiliary = Object.entries(pool.auxiliaryAddresses);
  if (auxiliary.length > mostAuxiliary) {
    faults.push(`too many auxiliary addresses: ${auxiliary.length}, at most ${mostAuxiliary}`);
  }
  for (const [name, address] of auxiliary.slice(0, mostAuxiliary)) {
    faults.push(
      ...faultOfAddress(address, subnet).map((fault) => `invalid auxiliary address ${name}: ${fault}`),
    );
  }
  return faults;
}

function faultsOfRange(text: string, subnet: Cidr): string[] {
  const range = parsePrefix(text);
  if (range === undefined) {
    return [`invalid ip-range ${text}: invalid CIDR block notation`];
  }
  const faults: string[] = [];
  if (range.prefix < subnet.prefix) {
    faults.push(
      `invalid ip-range ${text}: CIDR block is bigger than its parent subnet ${formatCidr(subnet)}`,
    );
  }
  if (text !== formatCidr(range)) {
    faults.push(`invalid ip-range ${text}: it should be ${formatCidr(range)}`);
  }
  if (!overlaps(subnet, range)) {
    faults.push(`invalid ip-range ${text}: parent subnet ${formatCidr(subnet)} doesn't contain ip-range`);
  }
  return faults;
}

function faultOfAddress(text: string, subnet: Cidr): string[] {
  const address = parseAddress(text);
  if (address === undefined) {
    return ["invalid address"];
  }
  const isWithin = address >= subnet.base && address < subnet.base + sizeOf(subnet);
  return isWithin ? [] : [`parent subnet ${formatCidr(subnet)} doesn't contain this address`];
}

function parsePrefix(text: string): Cidr | undefined {
  return text.includes("/") ? parseCidr(text) : undefined;
}
