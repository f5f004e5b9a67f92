/** Looking, when the backend starts, at what the configuration names in AWS. What is wrong is said, and nothing more. */
import { DescribeLogGroupsCommand } from "@aws-sdk/client-cloudwatch-logs";
import { DescribeSecurityGroupsCommand, DescribeSubnetsCommand } from "@aws-sdk/client-ec2";
import { BatchGetImageCommand } from "@aws-sdk/client-ecr";
import { DescribeClustersCommand } from "@aws-sdk/client-ecs";
import { DescribeMountTargetsCommand } from "@aws-sdk/client-efs";
import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";

import type { EcsSection } from "../../common/config/load.ts";
import { messageOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import { agentPort } from "./agent-port.ts";
import type { AwsClients } from "./aws/clients.ts";
import { agentTag } from "./definitions/agent-image.ts";

type Check = (config: EcsSection, aws: AwsClients, abortSignal: AbortSignal) => Promise<string | undefined>;

/**
 * Says whose account this is, and warns of what containers will trip over. Never fails; ends without a word when the
 * signal aborts.
 */
export async function checkSurroundings(
  config: EcsSection,
  aws: AwsClients,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  const checks: readonly (readonly [what: string, Check])[] = [
    ["the caller's identity", (_config, { sts }, abortSignal) => sayCaller(sts, logger, abortSignal)],
    ...surroundings,
  ];
  await Promise.all(
    checks.map(async ([what, check]) => {
      try {
        const problem = await check(config, aws, signal);
        if (problem !== undefined) {
          logger.warn(problem);
        }
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        logger.warn({ err: error }, `cannot look at ${what}: ${messageOf(error)}`);
      }
    }),
  );
}

const surroundings: readonly (readonly [what: string, Check])[] = [
  ["the cluster", checkCluster],
  ["the subnets", checkSubnets],
  ["the security groups", checkSecurityGroups],
  ["the file system", checkFileSystem],
  ["the file system's security group", checkFileSystemGroup],
  ["the log group", checkLogGroup],
  ["the agent's image", checkAgentImage],
];

/** An account that is not the meant one explains most other warnings. */
async function sayCaller(
  sts: AwsClients["sts"],
  logger: Logger,
  abortSignal: AbortSignal,
): Promise<undefined> {
  const { Account, Arn } = await sts.send(new GetCallerIdentityCommand({}), { abortSignal });
  logger.info(`AWS account ${Account} as ${Arn}`);
}

async function checkCluster(
  config: EcsSection,
  { ecs }: AwsClients,
  abortSignal: AbortSignal,
): Promise<string | undefined> {
  const { clusters = [] } = await ecs.send(new DescribeClustersCommand({ clusters: [config.cluster] }), {
    abortSignal,
  });
  const [cluster] = clusters;
  if (cluster?.status !== "ACTIVE") {
    return `there is no active cluster ${config.cluster} in ${config.region}: no container will start`;
  }
  const provider = config.capacityProvider;
  return provider === "FARGATE" || cluster.capacityProviders?.includes(provider) === true
    ? undefined
    : `the cluster ${config.cluster} has no capacity provider ${provider}: no container will start`;
}

async function checkSubnets(
  config: EcsSection,
  { ec2 }: AwsClients,
  abortSignal: AbortSignal,
): Promise<string | undefined> {
  const { Subnets = [] } = await ec2.send(new DescribeSubnetsCommand({ SubnetIds: config.subnets }), {
    abortSignal,
  });
  const networks = new Set(Subnets.map(({ VpcId }) => VpcId));
  return networks.size > 1 ? "ecs.subnets are not all of one VPC: no container will start" : undefined;
}

async function checkSecurityGroups(
  config: EcsSection,
  { ec2 }: AwsClients,
  abortSignal: AbortSignal,
): Promise<string | undefined> {
  const { SecurityGroups = [] } = await ec2.send(
    new DescribeSecurityGroupsCommand({ GroupIds: config.securityGroups }),
    { abortSignal },
  );
  const open = SecurityGroups.some(({ IpPermissions = [] }) =>
    IpPermissions.some(
      ({ IpProtocol, FromPort = 0, ToPort = 65_535 }) =>
        IpProtocol === "-1" || (IpProtocol === "tcp" && FromPort <= agentPort && agentPort <= ToPort),
    ),
  );
  return open
    ? undefined
    : `none of ecs.security_groups lets port ${agentPort} in: agents cannot be reached, and no start will succeed`;
}

async function checkFileSystem(
  config: EcsSection,
  { efs }: AwsClients,
  abortSignal: AbortSignal,
): Promise<string | undefined> {
  if (config.efsFilesystemId === undefined) {
    return undefined;
  }
  const { MountTargets = [] } = await efs.send(
    new DescribeMountTargetsCommand({ FileSystemId: config.efsFilesystemId }),
    { abortSignal },
  );
  const reached = new Set(MountTargets.map(({ SubnetId }) => SubnetId));
  const missing = config.subnets.filter((subnet) => !reached.has(subnet));
  return missing.length === 0
    ? undefined
    : `the file system ${config.efsFilesystemId} has no mount target in ${missing.join(", ")}: unless another subnet of the same zone has one, containers with volumes will not start there`;
}

/** One that is not there is EC2's refusal. */
async function checkFileSystemGroup(
  { efsSecurityGroupId: id }: EcsSection,
  { ec2 }: AwsClients,
  abortSignal: AbortSignal,
): Promise<undefined> {
  if (id !== undefined) {
    await ec2.send(new DescribeSecurityGroupsCommand({ GroupIds: [id] }), { abortSignal });
  }
}

async function checkAgentImage(
  config: EcsSection,
  { ecr }: AwsClients,
  abortSignal: AbortSignal,
): Promise<string | undefined> {
  const { agentAccessPointId, agentImage, architecture, ecrRepository } = config;
  if (agentAccessPointId !== undefined || agentImage !== undefined || ecrRepository === undefined) {
    return undefined; // It is brought by what this backend has no right to look at.
  }
  const imageTag = agentTag(architecture);
  const repositoryName = ecrRepository.slice(ecrRepository.indexOf("/") + 1);
  const { images = [] } = await ecr.send(
    new BatchGetImageCommand({ repositoryName, imageIds: [{ imageTag }] }),
    { abortSignal },
  );
  return images.length > 0
    ? undefined
    : `the agent's image ${ecrRepository}:${imageTag} is not there: run \`sockerless ecs push-agent\`, until then no container will start`;
}

async function checkLogGroup(
  config: EcsSection,
  { logs }: AwsClients,
  abortSignal: AbortSignal,
): Promise<string | undefined> {
  const { logGroups = [] } = await logs.send(
    new DescribeLogGroupsCommand({ logGroupNamePrefix: config.logGroup }),
    { abortSignal },
  );
  return logGroups.some(({ logGroupName }) => logGroupName === config.logGroup)
    ? undefined
    : `there is no log group ${config.logGroup} in ${config.region}: no container will start`;
}
