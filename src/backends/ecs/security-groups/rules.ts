/** Rules of security groups as plain values, so that present and wanted rules can be compared. Pure. */
import type { IpPermission } from "@aws-sdk/client-ec2";

/** One rule of one direction. */
export interface Rule {
  /** Undefined for every protocol and port. */
  readonly tcpPort: number | undefined;
  /** An IPv4 or IPv6 network, or a group. */
  readonly peer: { readonly cidr: string } | { readonly group: string };
}

/** TCP port of NFS. */
export const nfsPort = 2049;

const everyProtocol = "-1";

/**
 * A rule in EC2's form.
 *
 * @param description shown in the console; must be omitted to revoke a rule
 */
export function permissionOf({ tcpPort, peer }: Rule, description?: string): IpPermission {
  const ports =
    tcpPort === undefined
      ? { IpProtocol: everyProtocol }
      : { IpProtocol: "tcp", FromPort: tcpPort, ToPort: tcpPort };
  const told = description === undefined ? {} : { Description: description };
  if ("group" in peer) {
    return { ...ports, UserIdGroupPairs: [{ GroupId: peer.group, ...told }] };
  }
  return peer.cidr.includes(":")
    ? { ...ports, Ipv6Ranges: [{ CidrIpv6: peer.cidr, ...told }] }
    : { ...ports, IpRanges: [{ CidrIp: peer.cidr, ...told }] };
}

/** The rules that permissions do not include. */
export function missingRules(wanted: readonly Rule[], present: readonly IpPermission[]): Rule[] {
  const known = new Set(present.flatMap((permission) => rulesOf(permission)).map(keyOf));
  return wanted.filter((rule) => !known.has(keyOf(rule)));
}

/** The permissions that are not wanted, one rule each: EC2 groups those of one protocol. */
export function surplusPermissions(
  wanted: readonly Rule[],
  present: readonly IpPermission[],
): IpPermission[] {
  const asked = new Set(wanted.map(keyOf));
  return present.flatMap(singly).filter((permission) => {
    const [rule] = rulesOf(permission);
    return rule === undefined || !asked.has(keyOf(rule));
  });
}

/** A permission split into rules, including kinds that this backend does not create. */
function singly(permission: IpPermission): IpPermission[] {
  const { IpRanges, Ipv6Ranges, PrefixListIds, UserIdGroupPairs, ...ports } = permission;
  return [
    ...(IpRanges ?? []).map((range) => ({ ...ports, IpRanges: [undescribed(range)] })),
    ...(Ipv6Ranges ?? []).map((range) => ({ ...ports, Ipv6Ranges: [undescribed(range)] })),
    ...(PrefixListIds ?? []).map((list) => ({ ...ports, PrefixListIds: [undescribed(list)] })),
    ...(UserIdGroupPairs ?? []).map((pair) => ({ ...ports, UserIdGroupPairs: [undescribed(pair)] })),
  ];
}

/** EC2 revokes a rule only without its description. */
function undescribed<T extends { readonly Description?: string | undefined }>(
  peer: T,
): Omit<T, "Description"> {
  const { Description: _, ...rest } = peer;
  return rest;
}

/** Peers that permissions of any width admit to a TCP port. */
export function peersAt(port: number, permissions: readonly IpPermission[]): Rule["peer"][] {
  return permissions
    .filter(
      ({ IpProtocol, FromPort = 0, ToPort = 65_535 }) =>
        IpProtocol === everyProtocol || (IpProtocol === "tcp" && FromPort <= port && port <= ToPort),
    )
    .flatMap(peersOf);
}

/** The rules of a permission, as far as they are of kinds that this backend creates. */
function rulesOf(permission: IpPermission): Rule[] {
  const { IpProtocol, FromPort, ToPort } = permission;
  if (IpProtocol !== everyProtocol && (IpProtocol !== "tcp" || FromPort !== ToPort)) {
    return [];
  }
  const tcpPort = IpProtocol === everyProtocol ? undefined : FromPort;
  return peersOf(permission).map((peer) => ({ tcpPort, peer }));
}

function peersOf({ IpRanges, Ipv6Ranges, UserIdGroupPairs }: IpPermission): Rule["peer"][] {
  return [
    ...(IpRanges ?? []).map(({ CidrIp = "" }) => ({ cidr: CidrIp })),
    ...(Ipv6Ranges ?? []).map(({ CidrIpv6 = "" }) => ({ cidr: CidrIpv6 })),
    ...(UserIdGroupPairs ?? []).map(({ GroupId = "" }) => ({ group: GroupId })),
  ];
}

function keyOf({ tcpPort, peer }: Rule): string {
  return `${tcpPort ?? "all"} ${"group" in peer ? peer.group : peer.cidr}`;
}
