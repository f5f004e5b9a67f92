/**
 * Security groups as an nftables ruleset of the simulated VPC's router, which every packet between two addresses
 * passes. A packet passes only by rules: it needs one of its sender's groups (egress) and one of its receiver's
 * (ingress); answers to packets that were let through pass, as clouds track connections.
 */

/** One rule of a group: a protocol, its ports, and the other side. */
export interface GroupRule {
  /** `tcp`, `udp`, `icmp`, a protocol's number, or `-1` for all. */
  readonly protocol: string;
  /** Ports, both ends included; for other protocols than tcp and udp they do not count. */
  readonly fromPort?: number;
  readonly toPort?: number;
  /** The other side by range of IPv4 or IPv6 … */
  readonly cidr?: string;
  /** … or by membership of a group. */
  readonly groupId?: string;
}

/** The rules by which a group lets packets in and out. */
export interface GroupRules {
  readonly ingress: readonly GroupRule[];
  readonly egress: readonly GroupRule[];
}

/** The table before the first group. */
export const emptyFirewall = `
table inet vpc {
  set tasks { type ipv4_addr; }
  set tasks6 { type ipv6_addr; }
  set cut { type ipv4_addr; }
  set cut6 { type ipv6_addr; }
  chain egress {
    ip saddr != @tasks meta mark set 1
    ip6 saddr != @tasks6 meta mark set 1
  }
  chain ingress {
    ip daddr != @tasks accept
    ip6 daddr != @tasks6 accept
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ip saddr @cut drop
    ip daddr @cut drop
    ip6 saddr @cut6 drop
    ip6 daddr @cut6 drop
    ct state established,related accept
    ct status dnat accept comment "groups do not concern metadata and resolver"
    meta mark set 0
    jump egress
    meta mark != 1 drop
    jump ingress
  }
}
`;

/** Commands that make a group that nobody has and that lets nothing through. */
export function addGroup(groupId: string): string {
  const name = nameOf(groupId);
  return `
add set inet vpc ${name} { type ipv4_addr; }
add set inet vpc ${name}6 { type ipv6_addr; }
add chain inet vpc in_${name}
add chain inet vpc out_${name}
add rule inet vpc egress ip saddr @${name} jump out_${name}
add rule inet vpc ingress ip daddr @${name} jump in_${name}
add rule inet vpc egress ip6 saddr @${name}6 jump out_${name}
add rule inet vpc ingress ip6 daddr @${name}6 jump in_${name}
`;
}

/** Commands that give a group its rules, instead of those that it had; other groups named must exist. */
export function setRules(groupId: string, rules: GroupRules): string {
  const name = nameOf(groupId);
  return [
    `flush chain inet vpc in_${name}`,
    `flush chain inet vpc out_${name}`,
    ...rules.ingress
      .flatMap((rule) => matchesOf(rule, "saddr"))
      .map((match) => `add rule inet vpc in_${name} ${match} accept`),
    ...rules.egress
      .flatMap((rule) => matchesOf(rule, "daddr"))
      .map((match) => `add rule inet vpc out_${name} ${match} meta mark set 1`),
    "",
  ].join("\n");
}

/** Commands that add addresses to sets, or take them out. */
export function setMembers(verb: "add" | "delete", address: string, groupIds: readonly string[]): string {
  const sets = ["tasks", ...new Set(groupIds.map(nameOf))];
  return sets.map((set) => `${verb} element inet vpc ${set}${familyOf(address)} { ${address} }\n`).join("");
}

/** Command that drops everything from and to an address, or ends that. */
export function setCut(verb: "add" | "delete", address: string): string {
  return `${verb} element inet vpc cut${familyOf(address)} { ${address} }\n`;
}

/** Matches for a rule: one for each family that its peer may be of. */
function matchesOf(
  { protocol, fromPort, toPort, cidr = "0.0.0.0/0", groupId }: GroupRule,
  side: "saddr" | "daddr",
): string[] {
  const peers =
    groupId === undefined
      ? [`ip${familyOf(cidr)} ${side} ${cidr}`]
      : ["", "6"].map((family) => `ip${family} ${side} @${nameOf(groupId)}${family}`);
  if (protocol === "-1") {
    return peers;
  }
  const ofPorts = (protocol === "tcp" || protocol === "udp") && fromPort !== undefined && fromPort !== -1;
  const what = ofPorts ? `${protocol} dport ${fromPort}-${toPort ?? fromPort}` : `meta l4proto ${protocol}`;
  return peers.map((peer) => `${peer} ${what}`);
}

/** The end of the names of what is for an address' or a range's family. */
function familyOf(address: string): "" | "6" {
  return address.includes(":") ? "6" : "";
}

/** A group's ID as nftables takes names. */
function nameOf(groupId: string): string {
  return groupId.replaceAll("-", "_");
}
