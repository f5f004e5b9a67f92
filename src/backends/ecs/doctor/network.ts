/** Checks of the tasks' network: egress, and access to the file system. */
import {
  DescribeRouteTablesCommand,
  DescribeSecurityGroupsCommand,
  type Route,
  type Subnet,
} from "@aws-sdk/client-ec2";
import { DescribeMountTargetSecurityGroupsCommand, DescribeMountTargetsCommand } from "@aws-sdk/client-efs";

import { gravestOf, ok, type Result, wrong } from "../../../common/finding.ts";
import { checkEndpoints } from "./endpoints.ts";
import { letsIn } from "./lets-in.ts";
import { nfsPort, peersAt } from "../security-groups/rules.ts";
import type { Surroundings } from "./surroundings.ts";

const httpsPort = 443;

/** Checks that the subnets' routes, or endpoints of the VPC, lead to the registries and to the log. */
export async function checkWayOut(surroundings: Surroundings, abortSignal: AbortSignal): Promise<Result> {
  const { aws, config } = surroundings;
  const subnets = await surroundings.subnets(abortSignal);
  const tablesBy = async (Name: string, Values: string[]) => {
    const Filters = [
      { Name: "vpc-id", Values: [await surroundings.vpc(abortSignal)] },
      { Name, Values },
    ];
    return (
      (await aws.ec2.send(new DescribeRouteTablesCommand({ Filters }), { abortSignal })).RouteTables ?? []
    );
  };
  const own = await tablesBy("association.subnet-id", config.subnets);
  const [main] = await tablesBy("association.main", ["true"]);
  const results = subnets.map(async (subnet) => {
    const table =
      own.find(({ Associations = [] }) =>
        Associations.some(({ SubnetId }) => SubnetId === subnet.SubnetId),
      ) ?? main;
    const route = defaultRouteOf(subnet, table?.Routes ?? []);
    return route === undefined
      ? await checkEndpoints(surroundings, subnet, table?.RouteTableId, abortSignal)
      : wayOutOf(subnet, route, config.assignPublicIp);
  });
  return gravestOf(await Promise.all(results));
}

function defaultRouteOf({ Ipv6Native }: Subnet, routes: readonly Route[]): Route | undefined {
  return routes.find(({ DestinationCidrBlock, DestinationIpv6CidrBlock }) =>
    Ipv6Native === true ? DestinationIpv6CidrBlock === "::/0" : DestinationCidrBlock === "0.0.0.0/0",
  );
}

function wayOutOf({ SubnetId, Ipv6Native }: Subnet, route: Route, isPublic: boolean): Result {
  const { NatGatewayId, TransitGatewayId, GatewayId, EgressOnlyInternetGatewayId, NetworkInterfaceId } =
    route;
  const target =
    NatGatewayId ?? TransitGatewayId ?? EgressOnlyInternetGatewayId ?? NetworkInterfaceId ?? GatewayId ?? "";
  if (route.State === "blackhole") {
    return wrong(
      `the default route of ${SubnetId} leads to ${target}, which is no more: no image is pulled there`,
    );
  }
  return target.startsWith("igw-") && Ipv6Native !== true && !isPublic
    ? wrong(
        `the default route of ${SubnetId} leads to the Internet gateway ${target}, which serves public addresses alone: set ecs.assign_public_ip, or name subnets with a NAT gateway`,
      )
    : ok(`${SubnetId} by ${target}`);
}

/** Checks that the groups of tasks exist and allow egress to registries, AWS, and a backend that agents call. */
export async function checkGroupsEgress(
  { aws, config }: Surroundings,
  abortSignal: AbortSignal,
): Promise<Result> {
  const { SecurityGroups = [] } = await aws.ec2.send(
    new DescribeSecurityGroupsCommand({ GroupIds: config.securityGroups }),
    { abortSignal },
  );
  const permissions = SecurityGroups.flatMap(({ IpPermissionsEgress = [] }) => IpPermissionsEgress);
  const { agentMode, callbackUrl } = config;
  const callbackPort =
    agentMode === "callback" && callbackUrl !== undefined
      ? Number(new URL(callbackUrl).port) || httpsPort
      : httpsPort;
  const closed = [...new Set([httpsPort, callbackPort])].filter(
    (port) => peersAt(port, permissions).length === 0,
  );
  return closed.length === 0
    ? ok()
    : wrong(
        `ecs.security_groups let nothing out to port ${closed.join(", ")}: ${closed.includes(httpsPort) ? "no image is pulled and no log written" : "agents do not reach ecs.callback_url"}; add an egress rule`,
      );
}

/** Checks that the tasks' groups have access to the mount targets of their subnets. */
export async function checkMountTargets(
  surroundings: Surroundings,
  abortSignal: AbortSignal,
): Promise<Result> {
  const { aws, config } = surroundings;
  const { MountTargets = [] } = await aws.efs.send(
    new DescribeMountTargetsCommand({ FileSystemId: config.efsFilesystemId }),
    { abortSignal },
  );
  const subnets = await surroundings.subnets(abortSignal);
  const results: Result[] = [];
  for (const { MountTargetId, SubnetId, LifeCycleState } of MountTargets) {
    const subnet = subnets.find((each) => each.SubnetId === SubnetId);
    if (subnet === undefined) {
      continue;
    }
    if (LifeCycleState !== "available") {
      results.push(wrong(`the mount target ${MountTargetId} in ${SubnetId} is ${LifeCycleState}`));
      continue;
    }
    const { SecurityGroups = [] } = await aws.efs.send(
      new DescribeMountTargetSecurityGroupsCommand({ MountTargetId }),
      { abortSignal },
    );
    const described = await aws.ec2.send(new DescribeSecurityGroupsCommand({ GroupIds: SecurityGroups }), {
      abortSignal,
    });
    const permissions = (described.SecurityGroups ?? []).flatMap(({ IpPermissions = [] }) => IpPermissions);
    results.push(
      letsIn(permissions, nfsPort, config.securityGroups, subnet)
        ? ok()
        : wrong(
            `${SecurityGroups.join(", ")} of the mount target in ${SubnetId} do not let ecs.security_groups in at port ${nfsPort}: containers with volumes will not start; add an ingress rule`,
          ),
    );
  }
  return gravestOf(results);
}
