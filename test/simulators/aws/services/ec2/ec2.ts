/** EC2, as far as it is the tasks' network: VPC, subnets, security groups, interfaces. */
import type {
  CreateTagsCommandInput,
  CreateTagsCommandOutput,
  DescribeNetworkInterfacesCommandInput,
  DescribeNetworkInterfacesCommandOutput,
  DescribeSubnetsCommandInput,
  DescribeSubnetsCommandOutput,
  DescribeVpcsCommandInput,
  DescribeVpcsCommandOutput,
} from "@aws-sdk/client-ec2";

import type { NetworkInterface, Subnet } from "../../cloud.ts";
import { arnOf, type Context } from "../../context.ts";
import { AwsFault, operation, type ServiceHandler } from "../../wire/service.ts";
import { requestTagContext, resourceTagContext, tagMap } from "../tags.ts";
import { applyFilters } from "./filters.ts";
import { groupOperations } from "./group-operations.ts";
import type { Network } from "./network.ts";
import { checkedTags, describeAccess, requirePage } from "./requests.ts";

/** The simulated EC2. */
export function ec2Service(context: Context, network: Network): ServiceHandler {
  const { accountId } = context;
  const { vpcId, groups } = network;

  const shownSubnet = (subnet: Subnet) => ({
    SubnetId: subnet.subnetId,
    SubnetArn: subnet.subnetArn,
    VpcId: vpcId,
    ...(isIpv6(subnet)
      ? {
          Ipv6Native: true,
          AssignIpv6AddressOnCreation: true,
          Ipv6CidrBlockAssociationSet: [
            { Ipv6CidrBlock: subnet.cidr, Ipv6CidrBlockState: { State: "associated" as const } },
          ],
        }
      : { Ipv6Native: false, CidrBlock: subnet.cidr }),
    AvailabilityZone: subnet.availabilityZone,
    AvailableIpAddressCount: network.freeAddresses(subnet),
    DefaultForAz: false,
    MapPublicIpOnLaunch: false,
    OwnerId: accountId,
    State: "available" as const,
    Tags: [],
  });

  const shownInterface = (each: NetworkInterface) => ({
    NetworkInterfaceId: each.networkInterfaceId,
    SubnetId: each.subnet.subnetId,
    VpcId: vpcId,
    AvailabilityZone: each.subnet.availabilityZone,
    Description: each.description,
    Groups: each.groupIds.map((groupId) => ({ GroupId: groupId, GroupName: groups.find(groupId)?.name })),
    InterfaceType: "interface" as const,
    MacAddress: each.macAddress,
    OwnerId: accountId,
    PrivateDnsName: each.privateDnsName,
    ...(isIpv6(each.subnet)
      ? { Ipv6Addresses: [{ Ipv6Address: each.privateIpAddress, IsPrimaryIpv6: false }] }
      : {
          PrivateIpAddress: each.privateIpAddress,
          PrivateIpAddresses: [
            { Primary: true, PrivateIpAddress: each.privateIpAddress, PrivateDnsName: each.privateDnsName },
          ],
        }),
    RequesterManaged: true,
    SourceDestCheck: true,
    Status: "in-use" as const,
    TagSet: [],
  });

  return {
    name: "ec2",
    codes: {
      invalid: "InvalidParameterValue",
      throttled: "RequestLimitExceeded",
      throttledStatus: 503,
      denied: "UnauthorizedOperation",
      deniedStatus: 403,
      unknownKey: "AuthFailure",
      unknownKeyStatus: 401,
    },
    operations: {
      ...groupOperations(context, network),

      DescribeVpcs: operation<DescribeVpcsCommandInput, DescribeVpcsCommandOutput>({
        access: () => describeAccess("DescribeVpcs"),
        run: ({ VpcIds = [], Filters }) => {
          const unknown = VpcIds.find((each) => each !== vpcId);
          if (unknown !== undefined) {
            throw new AwsFault("InvalidVpcID.NotFound", `The vpc ID '${unknown}' does not exist`);
          }
          const found = applyFilters([vpcId], Filters, { "vpc-id": (id) => [id] }, () => ({}));
          return {
            Vpcs: found.map((id) => ({
              VpcId: id,
              CidrBlock: network.cidr,
              IsDefault: false,
              OwnerId: accountId,
              State: "available" as const,
              Tags: [],
            })),
          };
        },
      }),

      DescribeSubnets: operation<DescribeSubnetsCommandInput, DescribeSubnetsCommandOutput>({
        access: () => describeAccess("DescribeSubnets"),
        run: (input) => {
          const asked = input.SubnetIds?.map((subnetId) => {
            const subnet = network.subnet(subnetId);
            if (subnet === undefined) {
              throw new AwsFault("InvalidSubnetID.NotFound", `The subnet ID '${subnetId}' does not exist`);
            }
            return subnet;
          });
          const found = applyFilters(
            asked ?? network.subnets(),
            input.Filters,
            {
              "subnet-id": ({ subnetId }) => [subnetId],
              "vpc-id": () => [vpcId],
              "availability-zone": ({ availabilityZone }) => [availabilityZone],
            },
            () => ({}),
          );
          const { items, next } = requirePage(found, input.NextToken, input.MaxResults);
          return { Subnets: items.map(shownSubnet), NextToken: next };
        },
      }),

      DescribeNetworkInterfaces: operation<
        DescribeNetworkInterfacesCommandInput,
        DescribeNetworkInterfacesCommandOutput
      >({
        access: () => describeAccess("DescribeNetworkInterfaces"),
        run: (input) => {
          const all = network.interfaces();
          const asked = input.NetworkInterfaceIds?.map((wanted) => {
            const found = all.find(({ networkInterfaceId }) => networkInterfaceId === wanted);
            if (found === undefined) {
              const message = `The networkInterface ID '${wanted}' does not exist`;
              throw new AwsFault("InvalidNetworkInterfaceID.NotFound", message);
            }
            return found;
          });
          const found = applyFilters(
            asked ?? all,
            input.Filters,
            {
              "network-interface-id": ({ networkInterfaceId }) => [networkInterfaceId],
              "group-id": ({ groupIds }) => groupIds,
              "subnet-id": ({ subnet }) => [subnet.subnetId],
              "vpc-id": () => [vpcId],
              "private-ip-address": ({ privateIpAddress }) => [privateIpAddress],
              "addresses.private-ip-address": ({ privateIpAddress }) => [privateIpAddress],
              description: ({ description }) => [description],
              status: () => ["in-use"],
            },
            () => ({}),
          );
          const { items, next } = requirePage(found, input.NextToken, input.MaxResults);
          return { NetworkInterfaces: items.map(shownInterface), NextToken: next };
        },
      }),

      CreateTags: operation<CreateTagsCommandInput, CreateTagsCommandOutput>({
        access: ({ Resources = [], Tags }) =>
          Resources.map((id) => ({
            action: "ec2:CreateTags",
            resource: arnOf(context, "ec2", `security-group/${id}`),
            context: {
              ...requestTagContext(tagMap(Tags)),
              ...resourceTagContext(groups.find(id)?.tags ?? {}),
            },
          })),
        run: ({ Resources = [], Tags }) => {
          const tagged = Resources.map((id) => groups.get(id));
          const results = tagged.map((group) => checkedTags({ ...group.tags, ...tagMap(Tags) }));
          for (const [index, group] of tagged.entries()) {
            group.tags = results[index] ?? {};
          }
          return {};
        },
      }),
    },
  };
}

/** Whether a subnet has IPv6 alone. */
function isIpv6({ cidr }: Subnet): boolean {
  return cidr.includes(":");
}
