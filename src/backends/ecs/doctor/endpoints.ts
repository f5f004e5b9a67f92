/** Access to AWS from a subnet without a default route: endpoints of the VPC. */
import {
  DescribeSecurityGroupsCommand,
  DescribeVpcEndpointsCommand,
  type Subnet,
  type VpcEndpoint,
} from "@aws-sdk/client-ec2";

import { gravestOf, ok, type Result, warning, wrong } from "../../../common/finding.ts";
import { letsIn } from "./lets-in.ts";
import type { Surroundings } from "./surroundings.ts";

const httpsPort = 443;

/** Services that a start needs, by the last part of their names in EC2. */
const needed: Readonly<Record<string, string>> = {
  "ecr.api": "ECR",
  "ecr.dkr": "ECR's images",
  s3: "S3, where ECR's layers are",
  logs: "CloudWatch Logs",
};

/** Checks that there is an endpoint of each service that a task needs to start, usable from the subnet. */
export async function checkEndpoints(
  surroundings: Surroundings,
  subnet: Subnet,
  routeTable: string | undefined,
  abortSignal: AbortSignal,
): Promise<Result> {
  const { aws, config } = surroundings;
  const Filters = [{ Name: "vpc-id", Values: [await surroundings.vpc(abortSignal)] }];
  const { VpcEndpoints = [] } = await aws.ec2.send(new DescribeVpcEndpointsCommand({ Filters }), {
    abortSignal,
  });
  const names = [
    ...Object.keys(needed),
    ...(config.registryCredentials.length > 0 ? ["secretsmanager"] : []),
  ];
  const usable = VpcEndpoints.filter((endpoint) => isUsable(endpoint, routeTable));
  const found = names.map(
    (name) =>
      [
        name,
        usable.find(({ ServiceName = "" }) => ServiceName.endsWith(`.${config.region}.${name}`)),
      ] as const,
  );
  const missing = found.flatMap(([name, endpoint]) => (endpoint === undefined ? [needed[name] ?? name] : []));
  if (missing.length > 0) {
    return warning(
      `${subnet.SubnetId} has no default route, and its VPC no endpoint to ${missing.join(", ")}: tasks there start only if another way leads there`,
    );
  }
  const closed = await Promise.all(
    found.map(async ([name, { Groups = [] } = {}]) => {
      if (Groups.length === 0) {
        return ok(); // Gateway endpoints have no security groups.
      }
      const { SecurityGroups = [] } = await aws.ec2.send(
        new DescribeSecurityGroupsCommand({ GroupIds: Groups.map(({ GroupId = "" }) => GroupId) }),
        { abortSignal },
      );
      const permissions = SecurityGroups.flatMap(({ IpPermissions = [] }) => IpPermissions);
      return letsIn(permissions, httpsPort, config.securityGroups, subnet)
        ? ok()
        : wrong(
            `the endpoint to ${needed[name] ?? name} does not let ecs.security_groups in at port ${httpsPort}: tasks in ${subnet.SubnetId} do not start; add an ingress rule`,
          );
    }),
  );
  return gravestOf([...closed, ok(`${subnet.SubnetId} by VPC endpoints: images come from ECR alone`)]);
}

/** Whether the subnet's names or routes lead to it. */
function isUsable(
  { VpcEndpointType, State, PrivateDnsEnabled, RouteTableIds = [] }: VpcEndpoint,
  routeTable: string | undefined,
): boolean {
  if (State?.toLowerCase() !== "available") {
    return false; // EC2 returns this in lower or upper case.
  }
  return VpcEndpointType === "Gateway"
    ? routeTable !== undefined && RouteTableIds.includes(routeTable)
    : PrivateDnsEnabled === true;
}
