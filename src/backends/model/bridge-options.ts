/** Options of Docker's bridge driver (`network create -o com.docker.network.…`) and of its endpoints. Pure. */
import { isIPv4 } from "node:net";

import { invalid, messageOf, systemError } from "../../common/errors.ts";
import { parseBoolean, parseInteger } from "../../common/go-values.ts";

/** A bridge network's options. */
export interface BridgeOptions {
  /** The interface's name on the machine; empty for the driver's choice. */
  readonly name: string;
  /** Bytes; 0 for the machine's default. */
  readonly mtu: number;
  /** Whether its containers can reach each other. */
  readonly interconnected: boolean;
  /** Whether outgoing traffic gets an address of the machine. */
  readonly masquerades: boolean;
  /** Source address of masqueraded traffic; empty for that of the outgoing interface. */
  readonly source: string;
  /** Whether the machine has an address on the network. */
  readonly addressed: boolean;
  /** Whether the network has a gateway, whose address no container gets. */
  readonly hasGateway: boolean;
  /** Default address for published ports; empty for every address. */
  readonly hostAddress: string;
  /** Name prefix of its containers' interfaces; empty for Docker's. */
  readonly interfacePrefix: string;
}

const nameOption = "com.docker.network.bridge.name";
const mtuOption = "com.docker.network.driver.mtu";
/** Option for communication between containers on a network. */
export const iccOption = "com.docker.network.bridge.enable_icc";
const masqueradeOption = "com.docker.network.bridge.enable_ip_masquerade";
const sourceOption = "com.docker.network.host_ipv4";
const inhibitOption = "com.docker.network.bridge.inhibit_ipv4";
const gatewayModeOption = "com.docker.network.bridge.gateway_mode_ipv4";
const hostAddressOption = "com.docker.network.bridge.host_binding_ipv4";
const prefixOption = "com.docker.network.container_iface_prefix";

const gatewayModes = ["nat", "nat-unprotected", "routed", "isolated"];

const applied: ReadonlySet<string> = new Set([
  ...[nameOption, mtuOption, iccOption, masqueradeOption, sourceOption],
  ...[inhibitOption, gatewayModeOption, hostAddressOption, prefixOption],
]);

/** Whether {@link bridgeOptionsOf} implements an option with this value; true for invalid values, which it rejects. */
export function isBridgeOption(option: string, value: string): boolean {
  const isBuilt = option !== gatewayModeOption || (value !== "routed" && value !== "nat-unprotected");
  return applied.has(option) && isBuilt;
}

/**
 * Parses the options of a network.
 *
 * @param internal whether the network has no way out
 * @throws invalid, in Docker's words: a bad value; system: a gateway mode that the network cannot have
 */
export function bridgeOptionsOf(options: Readonly<Record<string, string>>, internal: boolean): BridgeOptions {
  const read = <T>(option: string, absent: T, parse: (value: string) => T): T =>
    options[option] === undefined ? absent : parsed(option, options[option], parse);
  const isIsolated = read(gatewayModeOption, "nat", gatewayModeOf) === "isolated";
  if (isIsolated && !internal) {
    throw systemError("gateway mode 'isolated' can only be used for an internal network");
  }
  const isInhibited = read(inhibitOption, false, parseBoolean);
  const hostAddress = read(hostAddressOption, "", addressOf);
  return {
    name: bridgeNameOf(options),
    mtu: read(mtuOption, 0, mtuOf),
    interconnected: isInterconnected(options),
    masquerades: read(masqueradeOption, true, parseBoolean),
    source: read(sourceOption, "", addressOf),
    addressed: !isIsolated && !isInhibited,
    hasGateway: !isIsolated && !(isInhibited && internal),
    hostAddress: hostAddress === "0.0.0.0" ? "" : hostAddress,
    interfacePrefix: options[prefixOption] ?? "",
  };
}

/** Whether containers of a network with these options can reach each other. @throws as {@link bridgeOptionsOf} */
export function isInterconnected({ [iccOption]: value }: Readonly<Record<string, string>>): boolean {
  return value === undefined || parsed(iccOption, value, parseBoolean);
}

/** The bridge's name in the options; empty if none. */
export function bridgeNameOf(options: Readonly<Record<string, string>>): string {
  return options[nameOption] ?? "";
}

function parsed<T>(option: string, value: string, parse: (value: string) => T): T {
  try {
    return parse(value);
  } catch (error) {
    throw invalid(`failed to parse ${option} value: ${value} (${messageOf(error)})`, error);
  }
}

function gatewayModeOf(value: string): string {
  if (!gatewayModes.includes(value)) {
    throw new Error(`unknown gateway mode ${value}`);
  }
  return value;
}

function addressOf(value: string): string {
  if (!isIPv4(value)) {
    throw new Error("nil ip");
  }
  return value;
}

function mtuOf(value: string): number {
  const mtu = parseInteger(value);
  if (mtu < 0) {
    throw new Error(`invalid MTU number: ${mtu}`);
  }
  return mtu;
}

const interfaceNameOption = "com.docker.network.endpoint.ifname";
const sysctlsOption = "com.docker.network.endpoint.sysctls";

/** A sysctl of one interface: the file `/proc/sys/net/FAMILY/TABLE/INTERFACE/NAME`. */
export interface InterfaceSysctl {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly value: string;
}

/** The options of an endpoint. */
export interface EndpointOptions {
  /** Name of the interface in the container; empty for the next free one. */
  readonly interfaceName: string;
  readonly sysctls: readonly InterfaceSysctl[];
}

/** Parses the options of an endpoint, without the sysctls that {@link sysctlFaults} reports. */
export function endpointOptionsOf(options: Readonly<Record<string, string>>): EndpointOptions {
  return {
    interfaceName: options[interfaceNameOption] ?? "",
    sysctls: sysctlsOf(options).flatMap((text) => parseSysctl(text) ?? []),
  };
}

/** Errors for the invalid sysctls of an endpoint, in Docker's words. */
export function sysctlFaults(options: Readonly<Record<string, string>>): string[] {
  return sysctlsOf(options)
    .filter((text) => parseSysctl(text) === undefined)
    .map(
      (text) =>
        `unrecognised network interface sysctl '${text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'`,
    );
}

function sysctlsOf(options: Readonly<Record<string, string>>): string[] {
  return options[sysctlsOption]?.split(",") ?? [];
}

/** Parses `net.ipv4.conf.IFNAME.forwarding=1`; the docker CLI sends it in lower case. */
function parseSysctl(text: string): InterfaceSysctl | undefined {
  const match = /^net\.(ipv4|ipv6|mpls)\.([^./=]+)\.(?:IFNAME|ifname)\.([^./=]+)=(.*)$/.exec(text);
  const [, family, table, name, value] = match ?? [];
  return family === undefined || table === undefined || name === undefined || value === undefined
    ? undefined
    : { family, table, name, value };
}
