/** Whether rules of security groups allow ingress. Pure. */
import { BlockList } from "node:net";

import type { IpPermission, Subnet } from "@aws-sdk/client-ec2";

import { peersAt } from "../security-groups/rules.ts";

/** Whether a rule allows ingress to a TCP port from one of the groups, or from the subnet's addresses. */
export function letsIn(
  permissions: readonly IpPermission[],
  port: number,
  groups: readonly string[],
  { CidrBlock, Ipv6CidrBlockAssociationSet = [] }: Subnet,
): boolean {
  const addresses = [CidrBlock, ...Ipv6CidrBlockAssociationSet.map(({ Ipv6CidrBlock }) => Ipv6CidrBlock)];
  return peersAt(port, permissions).some((peer) =>
    "group" in peer
      ? groups.includes(peer.group)
      : addresses.some((range) => range !== undefined && isWithin(range, peer.cidr)),
  );
}

/** Whether a range begins within another. */
function isWithin(range: string, outer: string): boolean {
  const [address = "", prefix = ""] = outer.split("/");
  const family = outer.includes(":") ? "ipv6" : "ipv4";
  const list = new BlockList();
  list.addSubnet(address, Number(prefix), family);
  const [first = ""] = range.split("/");
  return first.includes(":") === (family === "ipv6") && list.check(first, family);
}
