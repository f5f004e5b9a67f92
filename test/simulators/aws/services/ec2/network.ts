/** The VPC with its subnets and interfaces. */
import { randomBytes } from "node:crypto";

import type { NetworkInterface, SecurityRule, Subnet, VpcNetwork } from "../../cloud.ts";
import { arnOf, type Context } from "../../context.ts";
import { resourceId } from "../../ids.ts";
import {
  addressText,
  type Cidr,
  cidrText,
  overlap,
  parseCidr,
  sizeOf,
} from "../../../common/machine/cidr.ts";
import { AwsFault } from "../../wire/service.ts";
import { SecurityGroups } from "./groups.ts";

/** AWS keeps the first four addresses of a subnet and the last. */
const keptAtStart = 4;

/** The one VPC of the account: two subnets in two zones, and its default group. */
export class Network implements VpcNetwork {
  readonly vpcId = resourceId("vpc");
  readonly cidr: string;
  readonly defaultGroupId: string;
  readonly groups: SecurityGroups;
  readonly #context: Context;
  readonly #subnets: readonly Subnet[];
  readonly #interfaces = new Map<string, NetworkInterface>();
  readonly #taken = new Set<string>();
  readonly #listeners = new Set<() => void>();
  readonly #next = new Map<string, number>();

  /** @param cidr of the VPC; its halves are the subnets */
  constructor(context: Context, cidr: string) {
    this.#context = context;
    this.cidr = cidr;
    this.groups = new SecurityGroups(
      context,
      (groupId) => this.interfaces().some(({ groupIds }) => groupIds.includes(groupId)),
      () => this.#changed(),
    );
    this.#subnets = halves(parseCidr(cidr)).map((half, index) => this.#newSubnet(half, "ab".charAt(index)));
    const { groupId } = this.groups.create("default", "default VPC security group", {}, this.vpcId);
    this.defaultGroupId = groupId;
    const everything = { protocol: "-1", fromPort: -1, toPort: -1 };
    this.groups.authorize(groupId, [{ ...everything, groupId, direction: "ingress", peer: { groupId } }], {});
  }

  subnets(): readonly Subnet[] {
    return this.#subnets;
  }

  subnet(subnetId: string): Subnet | undefined {
    return this.#subnets.find((each) => each.subnetId === subnetId);
  }

  hasGroup(groupId: string): boolean {
    return this.groups.find(groupId) !== undefined;
  }

  rulesOf(groupIds: readonly string[]): readonly SecurityRule[] {
    return groupIds.flatMap((groupId) => this.groups.find(groupId)?.rules ?? []);
  }

  interfaces(): readonly NetworkInterface[] {
    return [...this.#interfaces.values()];
  }

  /** How many addresses of a subnet are free. */
  freeAddresses({ subnetId, cidr }: Subnet): number {
    const used = this.interfaces().filter(({ subnet }) => subnet.subnetId === subnetId).length;
    return sizeOf(parseCidr(cidr)) - keptAtStart - 1 - used;
  }

  createInterface(request: {
    readonly subnetId: string;
    readonly groupIds: readonly string[];
    readonly description: string;
  }): NetworkInterface {
    const { quotas, region } = this.#context;
    const subnet = this.subnet(request.subnetId);
    if (subnet === undefined) {
      throw new AwsFault("InvalidSubnetID.NotFound", `The subnet ID '${request.subnetId}' does not exist`);
    }
    for (const groupId of request.groupIds) {
      this.groups.get(groupId);
    }
    if (request.groupIds.length > quotas.securityGroupsPerInterface) {
      const message = "The maximum number of security groups per interface has been reached.";
      throw new AwsFault("SecurityGroupsPerInterfaceLimitExceeded", message);
    }
    if (this.#interfaces.size >= quotas.networkInterfaces) {
      const message = "The maximum number of network interfaces has been reached.";
      throw new AwsFault("NetworkInterfaceLimitExceeded", message);
    }
    const privateIpAddress = this.#takeAddress(subnet);
    const made: NetworkInterface = {
      networkInterfaceId: resourceId("eni"),
      subnet,
      privateIpAddress,
      privateDnsName: `ip-${privateIpAddress.replaceAll(".", "-")}.${region === "us-east-1" ? "ec2" : `${region}.compute`}.internal`,
      // Locally administered, as an interface's in a VPC.
      macAddress: ["0e", ...(randomBytes(5).toString("hex").match(/../g) ?? [])].join(":"),
      groupIds: [...new Set(request.groupIds)],
      description: request.description,
    };
    this.#interfaces.set(made.networkInterfaceId, made);
    this.#changed();
    return made;
  }

  deleteInterface(networkInterfaceId: string): void {
    const gone = this.#interfaces.get(networkInterfaceId);
    if (gone !== undefined) {
      this.#interfaces.delete(networkInterfaceId);
      this.#taken.delete(gone.privateIpAddress);
      this.#changed();
    }
  }

  allows(
    from: NetworkInterface,
    to: NetworkInterface,
    port: number,
    protocol: "tcp" | "udp" = "tcp",
  ): boolean {
    const passes = (rules: readonly SecurityRule[], direction: string, other: NetworkInterface): boolean =>
      rules.some(
        (rule) =>
          rule.direction === direction &&
          (rule.protocol === "-1" ||
            (rule.protocol === protocol && rule.fromPort <= port && port <= rule.toPort)) &&
          isPeer(rule, other),
      );
    return (
      passes(this.rulesOf(from.groupIds), "egress", to) && passes(this.rulesOf(to.groupIds), "ingress", from)
    );
  }

  onChanged(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #changed(): void {
    for (const listener of this.#listeners) {
      listener();
    }
  }

  #newSubnet(cidr: Cidr, zone: string): Subnet {
    const subnetId = resourceId("subnet");
    return {
      subnetId,
      subnetArn: arnOf(this.#context, "ec2", `subnet/${subnetId}`),
      vpcId: this.vpcId,
      cidr: cidrText(cidr),
      routerAddress: addressText(cidr.base + 1),
      availabilityZone: `${this.#context.region}${zone}`,
    };
  }

  /** The next address in turn: one that was just given back is not given to another at once. */
  #takeAddress({ subnetId, cidr }: Subnet): string {
    const range = parseCidr(cidr);
    const usable = sizeOf(range) - keptAtStart - 1;
    const first = this.#next.get(subnetId) ?? 0;
    for (let step = 0; step < usable; step += 1) {
      const offset = (first + step) % usable;
      const address = addressText(range.base + keptAtStart + offset);
      if (!this.#taken.has(address)) {
        this.#taken.add(address);
        this.#next.set(subnetId, offset + 1);
        return address;
      }
    }
    const message = `There are not enough free addresses in subnet '${subnetId}' to satisfy the requested number of instances.`;
    throw new AwsFault("InsufficientFreeAddressesInSubnet", message);
  }
}

function isPeer({ peer }: SecurityRule, { groupIds, privateIpAddress }: NetworkInterface): boolean {
  return "groupId" in peer
    ? groupIds.includes(peer.groupId)
    : overlap(parseCidr(peer.cidr), parseCidr(`${privateIpAddress}/32`));
}

function halves({ base, prefix }: Cidr): readonly Cidr[] {
  const half = { base, prefix: prefix + 1 };
  return [half, { base: base + sizeOf(half), prefix: prefix + 1 }];
}
