/**
 * The network of the simulated VPC: a router in the simulator's network namespace, a veth pair from it to each task's
 * namespace and one to this machine, which so has an address in the VPC. As in a real VPC there is no shared Ethernet
 * between two addresses: every packet is routed, and the router's rules are the security groups.
 */
import { execFile } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { promisify } from "node:util";
import { recordName } from "../../../support/made.ts";
import {
  addressText,
  type Cidr,
  cidrText,
  ipv6Address,
  ipv6Network,
  overlap,
  parseCidr,
  sizeOf,
} from "./cidr.ts";
import type { Enclosure } from "./enclosure.ts";
import { addGroup, emptyFirewall, type GroupRules, setCut, setMembers, setRules } from "./firewall.ts";

const run = promisify(execFile);

/** An address of the VPC as the cloud gave it to a task. */
export interface Endpoint {
  /** An address of IPv4 or IPv6, as its subnet is. */
  readonly privateIpAddress: string;
  readonly macAddress: string;
  readonly subnet: { readonly cidr: string; readonly routerAddress: string };
  readonly groupIds: readonly string[];
}

/** A task's network namespace, which has an address of the VPC. */
export interface TaskNetwork {
  readonly endpoint: Endpoint;
  /** Path of the namespace inside the enclosure. */
  readonly namespace: string;
}

/** The address at which tasks find their metadata and credentials, as on Fargate. */
export const metadataAddress = "169.254.170.2";

/** The address at which tasks with IPv6 alone find their resolver, as in a real VPC. */
export const ipv6ResolverAddress = "fd00:ec2::253";

/** The name that a task's interface has on Fargate. */
const interfaceName = "eth1";

/** The router's end of every link; each link is a network of two, so that one address serves all. */
const routerMac = "0a:00:00:00:00:01";

/** The router's IPv6 address on the link to this machine. */
const routerLinkAddress = "fe80::1";

export class Vpc implements AsyncDisposable {
  /** The VPC's range, unlike every route of this machine. */
  readonly cidr: string;
  readonly #enclosure: Enclosure;
  readonly #hostInterface: string;
  readonly #hostAddresses = new Set<string>();
  /** The rules that the router has for each group once the queue has run. */
  readonly #groups = new Map<string, string>();
  #queue: Promise<unknown> = Promise.resolve();
  #tasks = 0;
  #ended = false;
  #ipv6: Promise<void> | undefined;

  private constructor(enclosure: Enclosure, range: Cidr, hostInterface: string) {
    this.#enclosure = enclosure;
    this.#hostInterface = hostInterface;
    this.cidr = cidrText(range);
    this.#hostAddresses.add(hostAddressOf(range));
  }

  static async start(enclosure: Enclosure): Promise<Vpc> {
    const hostInterface = recordName(`aws${randomBytes(4).toString("hex")}`);
    const range = await joinThisMachine(enclosure, hostInterface);
    const vpc = new Vpc(enclosure, range, hostInterface);
    await vpc.#startRouter(hostAddressOf(range));
    return vpc;
  }

  /** This machine's own address in the VPC: its first after the network's. Rules by CIDR mean the machine by it. */
  get hostAddress(): string {
    return hostAddressOf(parseCidr(this.cidr));
  }

  /** This machine's IPv6 address in the VPC. */
  get hostIpv6Address(): string {
    const range = parseCidr(this.cidr);
    return ipv6Address(ipv6Network(range, 1), range.base + 1);
  }

  /** The address of the resolver that a cloud has in every VPC: its second after the network's. */
  get resolverAddress(): string {
    return addressText(parseCidr(this.cidr).base + 2);
  }

  /** Makes a task's namespace, a member of the endpoint's groups. */
  async attach(endpoint: Endpoint): Promise<TaskNetwork> {
    const { privateIpAddress: address, macAddress, subnet, groupIds } = endpoint;
    await this.#addHostAddress(subnet.routerAddress);
    this.#tasks += 1;
    const name = `task${this.#tasks}`;
    await this.#inOrder(
      ["sh", "-e"],
      `
ip -batch - <<'END'
netns add ${name}
link add ${name} address ${routerMac} type veth peer name ${interfaceName} netns ${name} address ${macAddress}
link set ${name} up
route add ${wholeAddress(address)} dev ${name}
END
ip -n ${name} -batch - <<'END'
link set lo up
addr add ${address}${subnet.cidr.slice(subnet.cidr.indexOf("/"))} dev ${interfaceName} noprefixroute ${atOnce(address).join(" ")}
link set ${interfaceName} up
neigh add ${subnet.routerAddress} lladdr ${routerMac} dev ${interfaceName} nud permanent
route add ${subnet.routerAddress} dev ${interfaceName}
route add default via ${subnet.routerAddress}
END
nft -f - <<'END'
${this.#addGroups(groupIds)}${setMembers("add", address, groupIds)}
END
`,
    );
    return { endpoint, namespace: `/run/netns/${name}` };
  }

  /** Takes a task's namespace away; processes in it lose their network at once. */
  async detach({ endpoint, namespace }: TaskNetwork): Promise<void> {
    const name = namespace.slice("/run/netns/".length);
    await this.#inOrder(
      ["sh", "-e"],
      `
nft -f - <<'END'
${setMembers("delete", endpoint.privateIpAddress, endpoint.groupIds)}
END
ip link delete ${name}
ip netns delete ${name}
`,
    );
  }

  /** Gives a security group its rules; they hold for new connections of every member. */
  async setGroup(groupId: string, rules: GroupRules): Promise<void> {
    const peers = [...rules.ingress, ...rules.egress].flatMap((rule) => rule.groupId ?? []);
    const commands = setRules(groupId, rules);
    if (this.#groups.get(groupId) === commands) {
      await this.#queue;
      return;
    }
    const added = this.#addGroups([groupId, ...peers]);
    this.#groups.set(groupId, commands);
    await this.#nft(added + commands);
  }

  /** Drops everything from and to a task's address, established connections too, or ends that. */
  async setCut({ endpoint }: TaskNetwork, cut: boolean): Promise<void> {
    await this.#nft(setCut(cut ? "add" : "delete", endpoint.privateIpAddress));
  }

  /** Lets tasks reach, at the cloud's addresses, the services that this machine has at ports of its own. */
  async serve({
    metadata,
    resolver,
    ipv6Resolver,
  }: {
    /** Port of the metadata service; absent: the cloud has none at an address. */
    readonly metadata?: number;
    readonly resolver: number;
    /** Port of the resolver at {@link hostIpv6Address}; absent: no task has IPv6 alone. */
    readonly ipv6Resolver?: number | undefined;
  }): Promise<void> {
    await this.#nft(
      `
table ip services {
  chain prerouting {
    type nat hook prerouting priority -100;
    ${metadata === undefined ? "" : `ip daddr ${metadataAddress} tcp dport 80 dnat to ${this.hostAddress}:${metadata}`}
    ip daddr ${this.resolverAddress} udp dport 53 dnat to ${this.hostAddress}:${resolver}
  }
}
${ipv6Resolver === undefined ? "" : this.#ipv6Services(ipv6Resolver)}`,
    );
  }

  /** Gives the router and this machine IPv6 addresses too. */
  async joinIpv6(): Promise<void> {
    this.#ipv6 ??= this.#joinIpv6();
    await this.#ipv6;
  }

  #ipv6Services(resolver: number): string {
    return `
table ip6 services {
  chain prerouting {
    type nat hook prerouting priority -100;
    ip6 daddr ${ipv6ResolverAddress} udp dport 53 dnat to [${this.hostIpv6Address}]:${resolver}
  }
}
`;
  }

  async #joinIpv6(): Promise<void> {
    const host = this.hostIpv6Address;
    // Without the wait for duplicates of addresses, which takes a second or two each time.
    await this.#enclosure.run(
      ["sh", "-e"],
      `
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
for link in all default vpc; do echo 0 > /proc/sys/net/ipv6/conf/$link/accept_dad; done
ip -batch - <<'END'
addr add ${routerLinkAddress}/64 dev vpc nodad
route add ${host}/128 dev vpc
END
`,
    );
    this.#hostAddresses.add(host);
    const device = ["dev", this.#hostInterface];
    await run("ip", ["addr", "add", `${host}/128`, ...device, "nodad"]);
    const toRouter = ["via", routerLinkAddress, ...device, "src", host];
    await run("ip", ["neigh", "add", routerLinkAddress, "lladdr", routerMac, ...device, "nud", "permanent"]);
    await run("ip", ["route", "add", ipv6Network(parseCidr(this.cidr), 0), ...toRouter]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    await run("ip", ["link", "delete", this.#hostInterface]);
  }

  async #startRouter(hostAddress: string): Promise<void> {
    await this.#enclosure.run(
      ["sh", "-e"],
      `
echo 1 > /proc/sys/net/ipv4/ip_forward
for setting in all default; do echo 0 > /proc/sys/net/ipv4/conf/$setting/rp_filter; done
ip -batch - <<'END'
link set lo up
addr add ${metadataAddress}/32 dev lo
link set vpc address ${routerMac} up
route add ${hostAddress}/32 dev vpc
END
nft -f - <<'END'
${emptyFirewall}
END
`,
    );
    const device = ["dev", this.#hostInterface];
    // The router needs no address of its own: the link has one neighbour, so any next hop leads to it.
    await run("ip", ["neigh", "add", metadataAddress, "lladdr", routerMac, ...device, "nud", "permanent"]);
    await run("ip", [
      "route",
      "add",
      this.cidr,
      "via",
      metadataAddress,
      ...device,
      "onlink",
      "src",
      hostAddress,
    ]);
  }

  /** Gives this machine an address in the VPC: to tasks it is the router of every subnet. */
  async #addHostAddress(address: string): Promise<void> {
    if (!this.#hostAddresses.has(address)) {
      this.#hostAddresses.add(address);
      const whole = wholeAddress(address);
      await run("ip", ["addr", "add", whole, "dev", this.#hostInterface, ...atOnce(address)]);
      await this.#enclosure.run(["ip", "route", "add", whole, "dev", "vpc"]);
    }
  }

  /** Commands that make those of the groups that the router does not know yet. */
  #addGroups(groupIds: readonly string[]): string {
    const unknown = [...new Set(groupIds)].filter((groupId) => !this.#groups.has(groupId));
    for (const groupId of unknown) {
      this.#groups.set(groupId, "");
    }
    return unknown.map(addGroup).join("");
  }

  async #nft(commands: string): Promise<void> {
    await this.#inOrder(["nft", "-f", "-"], commands);
  }

  /** Runs a command that changes the router, after all earlier ones. */
  async #inOrder(command: readonly string[], input: string): Promise<void> {
    const before = this.#queue;
    const change = (async () => {
      await before;
      try {
        await this.#enclosure.run(command, input);
      } catch (error) {
        if (!this.#ended) {
          throw error;
        }
      }
    })();
    this.#queue = change.catch(() => {}); // the caller is told
    await change;
  }
}

/** Gives this machine an interface to the router, with an address of a range that no route of it has. */
async function joinThisMachine(enclosure: Enclosure, name: string): Promise<Cidr> {
  await run("ip", [
    "link",
    "add",
    name,
    "type",
    "veth",
    "peer",
    "name",
    "vpc",
    "netns",
    String(enclosure.pid),
  ]);
  for (;;) {
    const range = await freeRange();
    await run("ip", ["addr", "add", `${hostAddressOf(range)}/32`, "dev", name]);
    await run("ip", ["link", "set", name, "up"]);
    const claims = (await run("ip", ["-4", "-o", "addr", "show"])).stdout.matchAll(/inet (\S+)/g);
    // Two simulators that start at once may choose alike: at least one then sees the other's address, and moves.
    if ([...claims].filter(([, claim = ""]) => overlap(rangeOf(claim), range)).length === 1) {
      return range;
    }
    await run("ip", ["addr", "flush", "dev", name]);
  }
}

async function freeRange(): Promise<Cidr> {
  const { stdout } = await run("ip", ["-4", "-o", "route", "show", "table", "all"]);
  const routes = [...stdout.matchAll(/(?<=^|\s)\d+\.\d+\.\d+\.\d+(\/\d+)?(?=\s|$)/gm)].map(([route]) =>
    rangeOf(route),
  );
  for (const block of blocks) {
    const count = sizeOf(block) / sizeOf({ base: 0, prefix: vpcPrefix });
    const free = Array.from({ length: count }, (_, index) => ({
      base: block.base + index * sizeOf({ base: 0, prefix: vpcPrefix }),
      prefix: vpcPrefix,
    })).filter((range) => !routes.some((route) => overlap(route, range)));
    const chosen = free[randomInt(Math.max(1, free.length))];
    if (chosen !== undefined) {
      return chosen;
    }
  }
  throw new Error("this machine has routes to every range of addresses that a simulated VPC could have");
}

/** Ranges for VPCs: private ones first, then those of carriers and benchmarks, for machines that route all of 10/8. */
const blocks = ["10.64.0.0/10", "10.128.0.0/9", "100.64.0.0/10", "198.18.0.0/15"].map(parseCidr);

/** Prefix of a VPC with 16,384 addresses: enough for ten thousand tasks. */
const vpcPrefix = 18;

/** A range, or an address as the range that it is. */
function rangeOf(text: string): Cidr {
  return parseCidr(text.includes("/") ? text : `${text}/32`);
}

/** An address as the range that it is, of either family. */
function wholeAddress(address: string): string {
  return `${address}/${address.includes(":") ? 128 : 32}`;
}

/** Arguments with which `ip` gives an address at once: nobody else has it. */
function atOnce(address: string): string[] {
  return address.includes(":") ? ["nodad"] : [];
}

function hostAddressOf(range: Cidr): string {
  return addressText(range.base + 1);
}
