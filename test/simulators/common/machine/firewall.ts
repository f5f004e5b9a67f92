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
  /** The other side by IPv4 range … */
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
  set cut { type ipv4_addr; }
  chain egress {
    ip saddr != @tasks meta mark set 1
  }
  chain ingress {
    ip daddr != @tasks accept
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ip saddr @cut drop
    ip daddr @cut drop
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
add chain inet vpc in_${name}
add chain inet vpc out_${name}
add rule inet vpc egress ip saddr @${name} jump out_${name}
add rule inet vpc ingress ip daddr @${name} jump in_${name}
`;
}

/** Commands that give a group its rules, instead of those that it had; other groups named must exist. */
export function setRules(groupId: string, rules: GroupRules): string {
  const name = nameOf(groupId);
  return [
    `flush chain inet vpc in_${name}`,
    `flush chain inet vpc out_${name}`,
    ...rules.ingress.map((rule) => `add rule inet vpc in_${name} ${matchOf(rule, "saddr")} accept`),
    ...rules.egress.map((rule) => `add rule inet vpc out_${name} ${matchOf(rule, "daddr")} meta mark set 1`),
    "",
  ].join("\n");
}

/** Commands that add addresses to sets, or take them out. */
export function setMembers(verb: "add" | "delete", address: string, groupIds: readonly string[]): string {
  const sets = ["tasks", ...new Set(groupIds.map(nameOf))];
  return sets.map((set) => `${verb} element inet vpc ${set} { ${address} }\n`).join("");
}

/** Command that drops everything from and to an address, or ends that. */
export function setCut(verb: "add" | "delete", address: string): string {
  return `${verb} element inet vpc cut { ${address} }\n`;
}

function matchOf({ protocol, fromPort, toPort, cidr, groupId }: GroupRule, side: "saddr" | "daddr"): string {
  const peer = groupId === undefined ? `ip ${side} ${cidr ?? "0.0.0.0/0"}` : `ip ${side} @${nameOf(groupId)}`;
  if (protocol === "-1") {
    return peer;
  }
  if ((protocol === "tcp" || protocol === "udp") && fromPort !== undefined && fromPort !== -1) {
    return `${peer} ${protocol} dport ${fromPort}-${toPort ?? fromPort}`;
  }
  return `${peer} meta l4proto ${protocol}`;
}

/** A group's ID as nftables takes names. */
function nameOf(groupId: string): string {
  return groupId.replaceAll("-", "_");
}
