/** EC2, as far as it is the tasks' network: subnets, their route tables, and security groups. */

import type { Subnet } from "../../cloud.ts";
import type { Context } from "../../context.ts";
import { AwsFault, type Operation, operations, type ServiceHandler } from "../../wire/service.ts";
import { applyFilters } from "./filters.ts";
import { groupOperations } from "./group-operations.ts";
import type { Endpoint, Network, RouteTable } from "./network.ts";
import { describeAccess, requirePage } from "./requests.ts";

/** The simulated EC2. */
export function ec2Service(context: Context, network: Network): ServiceHandler {
  const { accountId } = context;
  const { vpcId } = network;

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
    operations: withDryRun({
      ...groupOperations(context, network),
      ...operations<typeof import("@aws-sdk/client-ec2")>({
        DescribeSubnets: {
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
        },

        DescribeRouteTables: {
          access: () => describeAccess("DescribeRouteTables"),
          run: (input) => {
            const found = applyFilters(
              network.routeTables,
              input.Filters,
              {
                "vpc-id": () => [vpcId],
                "association.subnet-id": ({ subnetIds }) => subnetIds,
                "association.main": ({ isMain }) => [String(isMain)],
              },
              () => ({}),
            );
            const { items, next } = requirePage(found, input.NextToken, input.MaxResults);
            return { RouteTables: items.map((table) => shownTable(table, vpcId)), NextToken: next };
          },
        },

        DescribeVpcEndpoints: {
          access: () => describeAccess("DescribeVpcEndpoints"),
          run: (input) => {
            const found = applyFilters(
              network.endpoints,
              input.Filters,
              { "vpc-id": () => [vpcId] },
              () => ({}),
            );
            const { items, next } = requirePage(found, input.NextToken, input.MaxResults);
            return {
              VpcEndpoints: items.map((each) => shownEndpoint(each, context.region, vpcId)),
              NextToken: next,
            };
          },
        },
      }),
    }),
  };
}

/** The operations, each of which does nothing for a request with `DryRun` but to check the caller's permission. */
function withDryRun(operations: Readonly<Record<string, Operation>>): Record<string, Operation> {
  const wrapped = Object.entries(operations).map(([name, { access, run }]): [string, Operation] => [
    name,
    {
      access,
      run(input, call) {
        if ((input as { readonly DryRun?: boolean }).DryRun === true) {
          const message = "Request would have succeeded, but DryRun flag is set.";
          throw new AwsFault("DryRunOperation", message, 412);
        }
        return run(input, call);
      },
    },
  ]);
  return Object.fromEntries(wrapped);
}

function shownEndpoint(
  { endpointId, service, kind, routeTableIds, groupIds }: Endpoint,
  region: string,
  vpcId: string,
) {
  return {
    ...{ VpcEndpointId: endpointId, VpcEndpointType: kind, VpcId: vpcId },
    ServiceName: `com.amazonaws.${region}.${service}`,
    State: "Available" as const,
    RouteTableIds: [...routeTableIds],
    Groups: groupIds.map((GroupId) => ({ GroupId, GroupName: GroupId })),
    PrivateDnsEnabled: kind === "Interface",
  };
}

function shownTable({ routeTableId, isMain, subnetIds, routes }: RouteTable, vpcId: string) {
  const association = { RouteTableId: routeTableId, AssociationState: { State: "associated" as const } };
  return {
    RouteTableId: routeTableId,
    VpcId: vpcId,
    Associations: [
      ...(isMain ? [{ ...association, Main: true }] : []),
      ...subnetIds.map((SubnetId) => ({ ...association, SubnetId, Main: false })),
    ],
    Routes: routes.map(({ destination, gateway, isBlackhole }) => ({
      [destination.includes(":") ? "DestinationIpv6CidrBlock" : "DestinationCidrBlock"]: destination,
      [gateway.startsWith("nat-") ? "NatGatewayId" : "GatewayId"]: gateway,
      State: isBlackhole === true ? ("blackhole" as const) : ("active" as const),
    })),
  };
}

/** Whether a subnet has IPv6 alone. */
function isIpv6({ cidr }: Subnet): boolean {
  return cidr.includes(":");
}
