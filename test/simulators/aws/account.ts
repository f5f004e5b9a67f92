/** The contents of a fresh account: everything that a user makes before sockerless runs. */
import type { Cloud, Subnet } from "./cloud.ts";
import type { Context } from "./context.ts";
import type { PolicyDocument } from "./iam/access.ts";
import type { FileSystem } from "./services/efs/state.ts";
import type { AwsServices } from "./services/services.ts";
import type { Namespace } from "./services/servicediscovery/state.ts";

/** The agents' port. */
const agentPort = 9111;
const nfsPort = 2049;

/** Names and IDs of a fresh account's contents. */
export interface Account {
  readonly cluster: string;
  readonly vpcId: string;
  readonly subnetIds: readonly string[];
  /** ID of the tasks' group, which lets its members and the host reach one another. */
  readonly securityGroupId: string;
  /** ID of the mount targets' group, which lets members of {@link securityGroupId} in. */
  readonly efsSecurityGroupId: string;
  readonly fileSystem: FileSystem;
  readonly logGroup: string;
  readonly namespace: Namespace;
  readonly executionRoleArn: string;
  readonly taskRoleArn: string;
  /** `127.0.0.1:port/sockerless` */
  readonly repositoryUri: string;
}

/** AWS's managed policy `AmazonECSTaskExecutionRolePolicy`. */
const taskExecutionPolicy: PolicyDocument = {
  Version: "2012-10-17",
  Statement: [
    {
      Effect: "Allow",
      Action: [
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:GetDownloadUrlForLayer",
        "ecr:BatchGetImage",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
      ],
      Resource: "*",
    },
  ],
};

/** This machine in a subnet, as the range of one address. */
export function hostOf({ routerAddress }: Subnet): string {
  return `${routerAddress}/${routerAddress.includes(":") ? 128 : 32}`;
}

/** Fills a fresh account. */
export function prepareAccount(
  context: Context,
  { network, efs, cloudMap, logs, ecr }: AwsServices,
  { registry }: Cloud,
): Account {
  const { groups, vpcId } = network;
  const tcp = (port: number) => ({ protocol: "tcp", fromPort: port, toPort: port }) as const;

  const tasks = groups.create("sockerless", "tasks of sockerless", {}, vpcId).groupId;
  const everything = { protocol: "-1", fromPort: -1, toPort: -1 } as const;
  const hosts = network.subnets().map(hostOf);
  groups.authorize(
    tasks,
    [
      { groupId: tasks, direction: "ingress", ...everything, peer: { groupId: tasks } },
      ...hosts.map((cidr) => ({
        groupId: tasks,
        direction: "ingress" as const,
        ...tcp(agentPort),
        peer: { cidr },
      })),
    ],
    {},
  );

  const mountTargets = groups.create("sockerless-efs", "mount targets", {}, vpcId).groupId;
  groups.authorize(
    mountTargets,
    [{ groupId: mountTargets, direction: "ingress", ...tcp(nfsPort), peer: { groupId: tasks } }],
    {},
  );

  const logGroup = "/sockerless/containers";
  logs.createGroup(logGroup);
  const repository = ecr.createRepository("sockerless");
  const trusted = ["ecs-tasks.amazonaws.com"];
  return {
    cluster: "sockerless",
    vpcId,
    subnetIds: network.subnets().map(({ subnetId }) => subnetId),
    securityGroupId: tasks,
    efsSecurityGroupId: mountTargets,
    fileSystem: efs.createFileSystem("sockerless", [mountTargets]),
    logGroup,
    namespace: cloudMap.addNamespace("sockerless.internal"),
    executionRoleArn: context.iam.addRole("sockerless-execution", {
      trusted,
      policies: [taskExecutionPolicy],
    }),
    taskRoleArn: context.iam.addRole("sockerless-task", { trusted, policies: [] }),
    repositoryUri: `${registry.host}/${repository.name}`,
  };
}
