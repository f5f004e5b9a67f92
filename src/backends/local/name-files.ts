/** /etc/hosts, /etc/hostname and /etc/resolv.conf of a container, as written by dockerd. */
import { ownValue } from "../../common/own-value.ts";
import type { ContainerRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { LinkedHost, NetworkPlan } from "../driver/workload-spec.ts";
import { parseExtraHost } from "../model/extra-hosts.ts";

/** The machine's own name files, from which those of containers are derived. */
export interface MachineNames {
  readonly hosts: string;
  readonly resolvConf: string;
  /** The address for `--add-host name:host-gateway`. */
  readonly hostGateway: string;
}

/** A file that the host process writes and binds into the container. */
export interface NameFile {
  readonly containerPath: "/etc/hosts" | "/etc/hostname" | "/etc/resolv.conf";
  readonly content: string;
}

/** Fallback resolvers for a machine whose only one is on its loopback, which containers cannot reach. */
const publicResolvers = ["8.8.8.8", "8.8.4.4"];

/** Resolver address for containers on user-defined networks; requests to it are redirected to the shim. */
const innerResolver = "127.0.0.11";

const localNames = [
  "127.0.0.1\tlocalhost",
  "::1\tlocalhost ip6-localhost ip6-loopback",
  "fe00::\tip6-localnet",
  "ff00::\tip6-mcastprefix",
  "ff02::1\tip6-allnodes",
  "ff02::2\tip6-allrouters",
];

/** The three files; none for a container that shares another's network, and thus its files. */
export function nameFiles(
  record: ContainerRecord,
  network: NetworkPlan,
  machine: MachineNames,
  linked: readonly LinkedHost[] = [],
): NameFile[] {
  if (network.kind === "container") {
    return [];
  }
  return [
    { containerPath: "/etc/hostname", content: `${record.config?.hostname ?? ""}\n` },
    { containerPath: "/etc/hosts", content: hosts(record, network, machine, linked) },
    { containerPath: "/etc/resolv.conf", content: resolvConf(record, network, machine.resolvConf) },
  ];
}

function hosts(
  record: ContainerRecord,
  network: NetworkPlan,
  machine: MachineNames,
  linked: readonly LinkedHost[],
): string {
  const base = network.kind === "host" ? [machine.hosts.trimEnd()] : [...localNames];
  for (const entry of record.hostConfig?.extraHosts ?? []) {
    base.push(extraHost(entry, machine));
  }
  if (network.kind === "networks") {
    const own = ownNames(record);
    for (const { name } of network.networks) {
      const address = ownValue(record.endpoints, name)?.ipAddress;
      if (address) {
        base.push(`${address}\t${own}`);
      }
    }
  }
  base.push(...linked.map(({ address, names }) => `${address}\t${names.join(" ")}`));
  return `${base.join("\n")}\n`;
}

function extraHost(entry: string, machine: MachineNames): string {
  const { name, address } = parseExtraHost(entry);
  return `${address === "host-gateway" ? machine.hostGateway : address}\t${name}`;
}

/** A container's own names in /etc/hosts: its full host name, and the part before the first dot. */
export function ownNames(record: ContainerRecord): string {
  const { hostname = "", domainname = "" } = record.config ?? {};
  const full = domainname === "" ? hostname : `${hostname}.${domainname}`;
  const dot = full.indexOf(".");
  return dot === -1 ? full : `${full} ${full.slice(0, dot)}`;
}

/**
 * The resolver configuration of a container: on user-defined networks the shim's resolver at 127.0.0.11, which forwards
 * to the others; otherwise the others.
 *
 * @param machine content of the machine's resolv.conf
 */
export function resolvConf(record: ContainerRecord, network: NetworkPlan, machine: string): string {
  const given = record.hostConfig;
  const dns = given?.dns ?? [];
  const search = given?.dnsSearch ?? [];
  const options = given?.dnsOptions ?? [];
  const overridden = dns.length > 0 || search.length > 0 || options.length > 0;
  if (network.kind === "host" && !overridden) {
    return machine;
  }
  const own = parseResolvConf(machine);
  const hasNames = network.kind === "networks" && network.networks.some(({ name }) => name !== "bridge");
  const outer = dns.length > 0 ? dns : reachableServers(own.nameservers, network);
  const servers = hasNames ? [innerResolver] : outer;
  const domains = search.length > 0 ? search.filter((domain) => domain !== ".") : own.search;
  const asked = options.length > 0 ? options : own.options;
  const chosen = hasNames ? withNdots(asked) : asked;
  return [
    ...servers.map((server) => `nameserver ${server}`),
    ...(domains.length > 0 ? [`search ${domains.join(" ")}`] : []),
    ...(chosen.length > 0 ? [`options ${chosen.join(" ")}`] : []),
    "",
  ].join("\n");
}

/** Adds `ndots:0` unless a number is given, so that names without a dot, such as peers', are queried as they are. */
function withNdots(options: readonly string[]): readonly string[] {
  const valid = options.filter((option) => !option.startsWith("ndots:") || /^ndots:\d+$/.test(option));
  return valid.some((option) => option.startsWith("ndots:")) ? valid : [...valid, "ndots:0"];
}

function reachableServers(servers: readonly string[], network: NetworkPlan): readonly string[] {
  if (network.kind === "host") {
    return servers;
  }
  const reachable = servers.filter((server) => !isLoopback(server));
  return reachable.length > 0 ? reachable : publicResolvers;
}

function isLoopback(address: string): boolean {
  return address.startsWith("127.") || address === "::1";
}

interface ResolverSettings {
  readonly nameservers: readonly string[];
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** Parses resolv.conf(5); the last `search` or `domain` line wins, options accumulate. */
function parseResolvConf(text: string): ResolverSettings {
  const nameservers: string[] = [];
  const options: string[] = [];
  let search: readonly string[] = [];
  for (const line of text.split("\n")) {
    const [keyword, ...values] = line
      .replace(/[#;].*$/, "")
      .trim()
      .split(/\s+/);
    switch (keyword) {
      case "nameserver":
        nameservers.push(...values.slice(0, 1));
        break;
      case "search":
      case "domain":
        search = values;
        break;
      case "options":
        options.push(...values);
        break;
      default:
        break;
    }
  }
  return { nameservers, search, options };
}
