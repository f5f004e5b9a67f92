/** The rules of security groups: between EC2's `IpPermissions` and one rule for each peer. */
import { isIPv6 } from "node:net";

import type { IpPermission, SecurityGroupRule } from "@aws-sdk/client-ec2";

import type { SecurityRule } from "../../cloud.ts";
import { parseCidr, cidrText } from "../../../common/machine/cidr.ts";
import { AwsFault, type Given } from "../../wire/service.ts";

/** A rule before it has an ID. */
export interface NewRule extends SecurityRule {
  readonly description?: string;
}

/** A rule of a group. */
export interface StoredRule extends NewRule {
  /** `sgr-…` */
  readonly ruleId: string;
  readonly tags: Readonly<Record<string, string>>;
}

/** The group and direction that rules apply to. */
export interface RuleTarget {
  readonly groupId: string;
  readonly direction: "ingress" | "egress";
}

/**
 * The rules that `IpPermissions` mean, one for each peer.
 *
 * @throws AwsFault `InvalidParameterValue`, `InvalidParameterCombination`
 */
export function rulesOf(target: RuleTarget, permissions: readonly Given<IpPermission>[]): NewRule[] {
  return permissions.flatMap((permission) => {
    const protocol = protocolOf(permission.IpProtocol);
    const ports = portsOf(protocol, permission.FromPort, permission.ToPort);
    const { IpRanges = [], UserIdGroupPairs = [], Ipv6Ranges = [], PrefixListIds = [] } = permission;
    if (PrefixListIds.length > 0) {
      throw invalid("the simulated VPC has no prefix lists");
    }
    if (IpRanges.length + Ipv6Ranges.length + UserIdGroupPairs.length === 0) {
      throw new AwsFault(
        "InvalidParameterCombination",
        "Invalid value 'null' for peer. It must be specified.",
      );
    }
    const common = { ...target, protocol, ...ports };
    return [
      ...IpRanges.map(({ CidrIp, Description }) => ({
        ...common,
        peer: { cidr: rangeOf(CidrIp) },
        ...descriptionOf(Description),
      })),
      ...Ipv6Ranges.map(({ CidrIpv6, Description }) => ({
        ...common,
        peer: { cidr: ipv6RangeOf(CidrIpv6) },
        ...descriptionOf(Description),
      })),
      ...UserIdGroupPairs.map(({ GroupId, Description }) => ({
        ...common,
        peer: { groupId: groupIdOf(GroupId) },
        ...descriptionOf(Description),
      })),
    ];
  });
}

/** Whether two rules let the same through. */
export function isSameRule(one: SecurityRule, other: SecurityRule): boolean {
  return (
    one.groupId === other.groupId &&
    one.direction === other.direction &&
    one.protocol === other.protocol &&
    one.fromPort === other.fromPort &&
    one.toPort === other.toPort &&
    peerText(one) === peerText(other)
  );
}

/** A rule in the words of EC2's messages. */
export function describeRule(rule: SecurityRule): string {
  const ports = rule.fromPort < 0 ? "" : `, from port: ${rule.fromPort}, to port: ${rule.toPort}`;
  const protocol = rule.protocol === "-1" ? "ALL" : rule.protocol.toUpperCase();
  return `peer: ${peerText(rule)}, ${protocol}${ports}, ALLOW`;
}

/** Rules as `DescribeSecurityGroups` shows them: one permission for each protocol and range of ports. */
export function permissionsOf(rules: readonly NewRule[], accountId: string): IpPermission[] {
  type Shown = IpPermission & { IpRanges: object[]; Ipv6Ranges: object[]; UserIdGroupPairs: object[] };
  const permissions = new Map<string, Shown>();
  for (const rule of rules) {
    const { protocol, fromPort, toPort, peer, description } = rule;
    const key = `${protocol} ${fromPort} ${toPort}`;
    const permission: Shown = permissions.get(key) ?? {
      IpProtocol: protocol,
      ...(protocol === "-1" ? {} : { FromPort: fromPort, ToPort: toPort }),
      IpRanges: [],
      Ipv6Ranges: [],
      PrefixListIds: [],
      UserIdGroupPairs: [],
    };
    permissions.set(key, permission);
    const said = description === undefined ? {} : { Description: description };
    if ("cidr" in peer && peer.cidr.includes(":")) {
      permission.Ipv6Ranges.push({ CidrIpv6: peer.cidr, ...said });
    } else if ("cidr" in peer) {
      permission.IpRanges.push({ CidrIp: peer.cidr, ...said });
    } else {
      permission.UserIdGroupPairs.push({ GroupId: peer.groupId, UserId: accountId, ...said });
    }
  }
  return [...permissions.values()];
}

/** A rule as `DescribeSecurityGroupRules` shows it. */
export function describedRule(rule: StoredRule, accountId: string, arn: string): SecurityGroupRule {
  return {
    SecurityGroupRuleId: rule.ruleId,
    SecurityGroupRuleArn: arn,
    GroupId: rule.groupId,
    GroupOwnerId: accountId,
    IsEgress: rule.direction === "egress",
    IpProtocol: rule.protocol,
    FromPort: rule.fromPort,
    ToPort: rule.toPort,
    ...("cidr" in rule.peer
      ? { [rule.peer.cidr.includes(":") ? "CidrIpv6" : "CidrIpv4"]: rule.peer.cidr }
      : { ReferencedGroupInfo: { GroupId: rule.peer.groupId, UserId: accountId } }),
    ...(rule.description === undefined ? {} : { Description: rule.description }),
    Tags: Object.entries(rule.tags).map(([Key, Value]) => ({ Key, Value })),
  };
}

function peerText({ peer }: SecurityRule): string {
  return "cidr" in peer ? peer.cidr : peer.groupId;
}

const protocolNumbers: Record<string, string> = { "1": "icmp", "6": "tcp", "17": "udp" };

function protocolOf(protocol: string | undefined): string {
  if (protocol === undefined) {
    throw new AwsFault("MissingParameter", "The request must contain the parameter ipProtocol");
  }
  const lower = protocol.toLowerCase();
  const known = lower === "all" ? "-1" : (protocolNumbers[lower] ?? lower);
  if (!["-1", "tcp", "udp", "icmp"].includes(known) && !(/^\d+$/.test(known) && Number(known) < 256)) {
    throw invalid(`Invalid value '${protocol}' for IP protocol. Unknown protocol.`);
  }
  return known;
}

function portsOf(
  protocol: string,
  fromPort: number | undefined,
  toPort: number | undefined,
): { readonly fromPort: number; readonly toPort: number } {
  if (protocol !== "tcp" && protocol !== "udp") {
    return { fromPort: fromPort ?? -1, toPort: toPort ?? -1 };
  }
  if (fromPort === undefined || toPort === undefined) {
    throw invalid("Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.");
  }
  if (fromPort < 0 || toPort > 65_535 || fromPort > toPort) {
    throw invalid(`Invalid value '${fromPort}-${toPort}' for portRange.`);
  }
  return { fromPort, toPort };
}

function rangeOf(cidr: string | undefined): string {
  if (cidr === undefined) {
    throw new AwsFault("MissingParameter", "The request must contain the parameter cidrIp");
  }
  try {
    // Bits outside the mask are dropped: the rule is not told as it was asked for.
    return cidrText(parseCidr(cidr));
  } catch {
    throw invalid(`CIDR block ${cidr} is malformed`);
  }
}

function ipv6RangeOf(cidr: string | undefined): string {
  if (cidr === undefined || !/^[0-9a-f:]+\/\d{1,3}$/.test(cidr) || !isIPv6(cidr.split("/")[0] ?? "")) {
    throw invalid(`CIDR block ${cidr} is malformed`);
  }
  return cidr;
}

function groupIdOf(groupId: string | undefined): string {
  if (groupId === undefined) {
    throw new AwsFault("MissingParameter", "The request must contain the parameter groupId");
  }
  return groupId;
}

function descriptionOf(description: string | undefined): { readonly description?: string } {
  if (description === undefined) {
    return {};
  }
  if (!/^[a-zA-Z0-9. _\-:/()#,@[\]+=&;{}!$*]{0,255}$/.test(description)) {
    throw invalid("Invalid rule description. Valid descriptions are strings less than 256 characters.");
  }
  return { description };
}

function invalid(message: string): AwsFault {
  return new AwsFault("InvalidParameterValue", message);
}
