/** Checking what a new network is asked to be. Pure. */
import { forbidden, invalid, notFound, notImplemented } from "../../../../common/errors.ts";
import type { CreateNetworkRequest, IpamPool } from "../../../../gen/sockerless/backend/v1/network_pb.ts";
import type { Policy } from "../../driver.ts";
import { type Cidr, formatCidr, overlaps, parseAddress, parseCidr, sizeOf } from "./cidr.ts";
import { builtinNetworks } from "./networks.ts";

/** Whether containers on a network reach one another. */
const iccOption = "com.docker.network.bridge.enable_icc";

/** Options of Docker's bridge driver that say what holds here anyway, with the values that say so. */
const neutralOptions: ReadonlyMap<string, readonly string[]> = new Map([
  ["com.docker.network.bridge.default_bridge", ["false"]],
  [iccOption, ["true", "1"]],
  ["com.docker.network.bridge.enable_ip_masquerade", ["true", "1"]],
  ["com.docker.network.bridge.gateway_mode_ipv4", ["nat"]],
  ["com.docker.network.bridge.host_binding_ipv4", ["0.0.0.0"]],
  ["com.docker.network.container_iface_prefix", ["eth"]],
  ["com.docker.network.driver.mtu", ["1500"]],
  ["com.docker.network.enable_ipv4", ["true", "1"]],
  ["com.docker.network.enable_ipv6", ["false", "0"]],
]);
const dockersOption = "com.docker.network.";
/** Of networks, and of their addresses. */
const knownDrivers: readonly (readonly string[])[] = [
  ["", "bridge"],
  ["", "default"],
];

/**
 * Refuses a network that cannot be.
 *
 * @param backend its name, for what it cannot do
 * @returns the names of settings that are accepted and not applied
 * @throws invalid; not-found: a driver; forbidden: predefined names and drivers; not-implemented: by name
 */
export function validateNetwork(
  request: CreateNetworkRequest,
  backend: string,
  bridgeSettings: Policy["bridgeSettings"],
): readonly string[] {
  const { name, driver, ipamDriver, options, pools } = request;
  if (builtinNetworks.has(name)) {
    throw forbidden(`operation is not permitted on predefined ${name} network `);
  }
  if (name.trim() === "") {
    throw invalid("invalid name: name is empty");
  }
  if (driver === "host" || driver === "null") {
    throw forbidden(`only one instance of "${driver}" network is allowed`);
  }
  const unknownDriver = [driver, ipamDriver].find((name, at) => !knownDrivers[at]?.includes(name));
  if (unknownDriver !== undefined) {
    throw notFound(`plugin ${JSON.stringify(unknownDriver)} not found`);
  }
  const missing = [
    ...(request.enableIpv6 || pools.some(({ subnet }) => subnet.includes(":")) ? ["IPv6 networks"] : []),
    ...Object.entries(options)
      .filter(([key, value]) => key.startsWith(dockersOption) && !neutralOptions.get(key)?.includes(value))
      .filter(([key]) => bridgeSettings === "refuse" || key !== iccOption)
      .map(([key, value]) => `the network option ${key}=${value}`),
  ];
  if (missing.length > 0 && bridgeSettings === "refuse") {
    throw notImplemented(`the ${backend} backend does not support ${missing.join(", ")}`);
  }
  validatePools(pools.filter(({ subnet }) => !subnet.includes(":")));
  return missing;
}

function validatePools(pools: readonly IpamPool[]): void {
  const faults = pools.flatMap(faultsOf);
  if (faults.length > 0) {
    throw invalid(`invalid network config:\n${faults.join("\n")}`);
  }
  if (pools.length > 1) {
    throw forbidden("bridge driver doesn't support multiple subnets");
  }
}

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
  for (const [name, address] of Object.entries(pool.auxiliaryAddresses)) {
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
