/** Options of Docker's bridge driver (`network create -o com.docker.network.…`) and of its endpoints. Pure. */
import { isIPv4 } from "node:net";

import { invalid, messageOf, systemError } from "../../common/errors.ts";
import { parseBoolean, parseInteger } from "../logging/go-values.ts";

/** A bridge as its options ask for it. */
export interface BridgeOptions {
  /** Name of the interface on the machine; empty: the driver's choice. */
  readonly name: string;
  /** Bytes; 0: the machine's own. */
  readonly mtu: number;
  /** Whether its containers reach each other. */
  readonly interconnected: boolean;
  /** Whether what leaves the network gets an address of the machine. */
  readonly masquerades: boolean;
  /** Address that masqueraded traffic gets; empty: that of the interface by which it leaves. */
  readonly source: string;
  /** Whether the machine has an address on the network. */
  readonly addressed: boolean;
  /** Whether the network has a gateway, an address that no container gets. */
  readonly hasGateway: boolean;
  /** Address at which published ports are bound that name none; empty: every address. */
  readonly hostAddress: string;
  /** Beginning of the names of its containers' interfaces; empty: Docker's. */
  readonly interfacePrefix: string;
}

const nameOption = "com.docker.network.bridge.name";
const mtuOption = "com.docker.network.driver.mtu";
const iccOption = "com.docker.network.bridge.enable_icc";
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

/** Whether {@link bridgeOptionsOf} reads an option and knows what to make of the value; one that is no value counts. */
export function isBridgeOption(option: string, value: string): boolean {
  const isBuilt = option !== gatewayModeOption || (value !== "routed" && value !== "nat-unprotected");
  return applied.has(option) && isBuilt;
}

/**
 * Reads the options of a network.
 *
 * @param internal whether the network leads nowhere
 * @throws invalid, in Docker's words: a value; system: a gateway mode that the network cannot have
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

/** Whether containers of a network with these options reach each other. @throws as {@link bridgeOptionsOf} */
export function isInterconnected({ [iccOption]: value }: Readonly<Record<string, string>>): boolean {
  return value === undefined || parsed(iccOption, value, parseBoolean);
}

/** The name that options give a bridge; empty: none. */
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

/** A setting of one interface: the file `/proc/sys/net/FAMILY/TABLE/INTERFACE/NAME`. */
export interface InterfaceSysctl {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly value: string;
}

/** An endpoint as its options ask for it. */
export interface EndpointOptions {
  /** Name of the interface in the container; empty: the next that is free. */
  readonly interfaceName: string;
  readonly sysctls: readonly InterfaceSysctl[];
}

/** Reads the options of an endpoint; sysctls that {@link sysctlFaults} finds are left out. */
export function endpointOptionsOf(options: Readonly<Record<string, string>>): EndpointOptions {
  return {
    interfaceName: options[interfaceNameOption] ?? "",
    sysctls: sysctlsOf(options).flatMap((text) => parseSysctl(text) ?? []),
  };
}

/** Faults in the sysctls of an endpoint, one each, in Docker's words. */
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

/** `net.ipv4.conf.IFNAME.forwarding=1`; the docker CLI makes it lower case. */
function parseSysctl(text: string): InterfaceSysctl | undefined {
  const match = /^net\.(ipv4|ipv6|mpls)\.([^./=]+)\.(?:IFNAME|ifname)\.([^./=]+)=(.*)$/.exec(text);
  const [, family, table, name, value] = match ?? [];
  return family === undefined || table === undefined || name === undefined || value === undefined
    ? undefined
    : { family, table, name, value };
}
