/** The VPC with its subnets and interfaces. */
import { randomBytes } from "node:crypto";

import type { NetworkInterface, SecurityRule, Subnet, VpcNetwork } from "../../cloud.ts";
import { arnOf, type Context } from "../../context.ts";
import { resourceId } from "../../ids.ts";
import {
  addressText,
  type Cidr,
  cidrText,
  contains,
  ipv6Address,
  ipv6Network,
  parseCidr,
  sizeOf,
} from "../../../common/machine/cidr.ts";
import { AwsFault } from "../../wire/service.ts";
import { SecurityGroups } from "./groups.ts";

/** AWS keeps the first four addresses of a subnet and the last. */
const keptAtStart = 4;

/** A route table. Packets do not follow it: there is no way out of the simulated VPC. */
export interface RouteTable {
  readonly routeTableId: string;
  /** Whether it is that of subnets which no table names. */
  readonly isMain: boolean;
  readonly subnetIds: readonly string[];
  readonly routes: readonly {
    /** A range, of IPv4 or IPv6. */
    readonly destination: string;
    /** `local`, `igw-…`, `nat-…` */
    readonly gateway: string;
    /** Whether the gateway is no more. */
    readonly isBlackhole?: boolean;
  }[];
}

/** An endpoint of a service in the VPC. Packets do not pass it. */
export interface Endpoint {
  readonly endpointId: string;
  /** `ecr.api`, `s3` */
  readonly service: string;
  readonly kind: "Gateway" | "Interface";
  /** Tables that lead to a gateway. */
  readonly routeTableIds: readonly string[];
  /** Groups of an interface. */
  readonly groupIds: readonly string[];
}

/** The one VPC of the account: two subnets in two zones, and its default group. */
export class Network implements VpcNetwork {
  readonly vpcId = resourceId("vpc");
  readonly cidr: string;
  readonly defaultGroupId: string;
  readonly groups: SecurityGroups;
  /** Route tables, which a test may change: in a fresh account the main one alone, with a NAT gateway. */
  routeTables: readonly RouteTable[];
  /** Endpoints, which a test may make: a fresh account has none. */
  endpoints: readonly Endpoint[] = [];
  readonly #context: Context;
  readonly #subnets: readonly Subnet[];
  readonly #interfaces = new Map<string, NetworkInterface>();
  readonly #taken = new Set<string>();
  readonly #listeners = new Set<() => void>();
  readonly #next = new Map<string, number>();
  /** The subnets' ranges of IPv4, by which addresses are counted. */
  readonly #ranges = new Map<string, Cidr>();
  readonly #ipv6: boolean;

  /**
   * @param cidr of the VPC; its halves are the subnets
   * @param ipv6 whether those have IPv6 alone
   */
  constructor(context: Context, cidr: string, ipv6 = false) {
    this.#context = context;
    this.#ipv6 = ipv6;
    this.cidr = cidr;
    this.groups = new SecurityGroups(
      context,
      (groupId) => this.interfaces().some(({ groupIds }) => groupIds.includes(groupId)),
      () => this.#changed(),
      ipv6,
    );
    this.#subnets = halves(parseCidr(cidr)).map((half, index) => this.#newSubnet(half, index));
    const { groupId } = this.groups.create("default", "default VPC security group", {}, this.vpcId);
    this.defaultGroupId = groupId;
    this.routeTables = [
      {
        routeTableId: resourceId("rtb"),
        isMain: true,
        subnetIds: [],
        routes: [
          { destination: cidr, gateway: "local" },
          { destination: "0.0.0.0/0", gateway: resourceId("nat") },
          { destination: "::/0", gateway: resourceId("igw") },
        ],
      },
    ];
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
  freeAddresses({ subnetId }: Subnet): number {
    const used = this.interfaces().filter(({ subnet }) => subnet.subnetId === subnetId).length;
    return sizeOf(this.#rangeOf(subnetId)) - keptAtStart - 1 - used;
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
    const networkInterfaceId = resourceId("eni");
    const privateIpAddress = this.#takeAddress(subnet);
    const host = this.#ipv6
      ? networkInterfaceId.replace("eni", "i")
      : `ip-${privateIpAddress.replaceAll(".", "-")}`;
    const made: NetworkInterface = {
      networkInterfaceId,
      subnet,
      privateIpAddress,
      privateDnsName: `${host}.${region === "us-east-1" ? "ec2" : `${region}.compute`}.internal`,
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

  #rangeOf(subnetId: string): Cidr {
    const range = this.#ranges.get(subnetId);
    if (range === undefined) {
      throw new Error(`${subnetId}: no such subnet`);
    }
    return range;
  }

  #newSubnet(range: Cidr, index: number): Subnet {
    const subnetId = resourceId("subnet");
    this.#ranges.set(subnetId, range);
    const cidr = this.#ipv6 ? ipv6Network(parseCidr(this.cidr), index + 1) : cidrText(range);
    return {
      subnetId,
      subnetArn: arnOf(this.#context, "ec2", `subnet/${subnetId}`),
      vpcId: this.vpcId,
      cidr,
      routerAddress: this.#ipv6 ? ipv6Address(cidr, range.base + 1) : addressText(range.base + 1),
      availabilityZone: `${this.#context.region}${"ab".charAt(index)}`,
    };
  }

  /** The next address in turn: one that was just given back is not given to another at once. */
  #takeAddress({ subnetId, cidr }: Subnet): string {
    const range = this.#rangeOf(subnetId);
    const usable = sizeOf(range) - keptAtStart - 1;
    const first = this.#next.get(subnetId) ?? 0;
    for (let step = 0; step < usable; step += 1) {
      const offset = (first + step) % usable;
      const number = range.base + keptAtStart + offset;
      const address = this.#ipv6 ? ipv6Address(cidr, number) : addressText(number);
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
  return "groupId" in peer ? groupIds.includes(peer.groupId) : contains(peer.cidr, privateIpAddress);
}

function halves({ base, prefix }: Cidr): readonly Cidr[] {
  const half = { base, prefix: prefix + 1 };
  return [half, { base: base + sizeOf(half), prefix: prefix + 1 }];
}
