/** Checks the configured resources in AWS when the backend starts. */
import { DescribeLogGroupsCommand } from "@aws-sdk/client-cloudwatch-logs";
import { DescribeSecurityGroupsCommand, DescribeSubnetsCommand } from "@aws-sdk/client-ec2";
import { BatchGetImageCommand } from "@aws-sdk/client-ecr";
import { DescribeClustersCommand } from "@aws-sdk/client-ecs";
import { DescribeMountTargetsCommand } from "@aws-sdk/client-efs";
import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";

import type { EcsSection } from "../../common/config/load.ts";
import type { Logger } from "../../common/logger.ts";
import type { StartCheck } from "../cloud/contract/platform.ts";
import { agentPort } from "../cloud/agents/agent-port.ts";
import type { AwsClients } from "./aws/clients.ts";
import { isIpv4Ecr } from "./ecr/credentials.ts";
import { repositoryNameOf } from "./ecr/repository.ts";
import { agentImageFault, agentTag } from "../cloud/images/agent-image.ts";

type Check = (config: EcsSection, aws: AwsClients, abortSignal: AbortSignal) => Promise<string | undefined>;

/** The checks; the first one logs the account and identity that AWS sees. */
export function ecsChecks(config: EcsSection, aws: AwsClients, logger: Logger): readonly StartCheck[] {
  return [
    { what: "the caller's identity", run: (signal) => logCaller(aws.sts, logger, signal) },
    ...surroundings
      .filter(([, , isConfigured]) => isConfigured?.(config) ?? true)
      .map(([what, check]) => ({ what, run: (signal: AbortSignal) => check(config, aws, signal) })),
  ];
}

/** Whether the agent's image is in this backend's own repository, which it may read. */
export function hasPushedAgent({ agentAccessPointId, agentImage, ecrRepository }: EcsSection): boolean {
  return agentAccessPointId === undefined && agentImage === undefined && ecrRepository !== undefined;
}

/** Logs the account: a wrong one explains most other warnings. */
async function logCaller(
  sts: AwsClients["sts"],
  logger: Logger,
  abortSignal: AbortSignal,
): Promise<undefined> {
  const { Account, Arn } = await sts.send(new GetCallerIdentityCommand({}), { abortSignal });
  logger.info(`AWS account ${Account} as ${Arn}`);
}

const checkCluster: Check = async (config, { ecs }, abortSignal) => {
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
};

const checkSubnets: Check = async (config, { ec2 }, abortSignal) => {
  const { Subnets = [] } = await ec2.send(new DescribeSubnetsCommand({ SubnetIds: config.subnets }), {
    abortSignal,
  });
  const networks = new Set(Subnets.map(({ VpcId }) => VpcId));
  if (networks.size > 1) {
    return "ecs.subnets are not all of one VPC: no container will start";
  }
  const ipv6Alone = Subnets.filter(({ Ipv6Native }) => Ipv6Native === true).map(({ SubnetId }) => SubnetId);
  if (ipv6Alone.length === 0) {
    return undefined;
  }
  const named = `ecs.subnets names subnets with IPv6 alone (${ipv6Alone.join(", ")})`;
  if (ipv6Alone.length < Subnets.length) {
    return `${named} beside others: containers of the two kinds will not reach one another`;
  }
  return config.ecrRepository !== undefined && isIpv4Ecr(config.ecrRepository)
    ? `${named}, and tasks there do not reach ${config.ecrRepository}: name the repository in ecs.ecr_repository as <account>.dkr-ecr.<region>.on.aws/<name>`
    : undefined;
};

const checkSecurityGroups: Check = async (config, { ec2 }, abortSignal) => {
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
};

const checkFileSystem: Check = async (config, { efs }, abortSignal) => {
  const { MountTargets = [] } = await efs.send(
    new DescribeMountTargetsCommand({ FileSystemId: config.efsFilesystemId }),
    { abortSignal },
  );
  const reached = new Set(MountTargets.map(({ SubnetId }) => SubnetId));
  const missing = config.subnets.filter((subnet) => !reached.has(subnet));
  return missing.length === 0
    ? undefined
    : `the file system ${config.efsFilesystemId} has no mount target in ${missing.join(", ")}: unless another subnet of the same zone has one, containers with volumes will not start there`;
};

/** Checks the file system's group; EC2 refuses the call if it does not exist. */
const checkFileSystemGroup: Check = async ({ efsSecurityGroupId: id }, { ec2 }, abortSignal) => {
  await ec2.send(new DescribeSecurityGroupsCommand({ GroupIds: [id ?? ""] }), { abortSignal });
};

const checkAgentImage: Check = async (config, { ecr }, abortSignal) => {
  const { architecture, ecrRepository = "" } = config;
  const imageTag = agentTag(architecture);
  const repositoryName = repositoryNameOf(ecrRepository);
  const { images = [] } = await ecr.send(
    new BatchGetImageCommand({ repositoryName, imageIds: [{ imageTag }] }),
    { abortSignal },
  );
  const [image] = images;
  const manifest = image && (image.imageManifest ?? "{}");
  return await agentImageFault(`${ecrRepository}:${imageTag}`, manifest, architecture, "ecs");
};

const checkLogGroup: Check = async (config, { logs }, abortSignal) => {
  const { logGroups = [] } = await logs.send(
    new DescribeLogGroupsCommand({ logGroupNamePrefix: config.logGroup }),
    { abortSignal },
  );
  return logGroups.some(({ logGroupName }) => logGroupName === config.logGroup)
    ? undefined
    : `there is no log group ${config.logGroup} in ${config.region}: no container will start`;
};

type SurroundingCheck = readonly [what: string, Check, isConfigured?: (config: EcsSection) => boolean];

const surroundings: readonly SurroundingCheck[] = [
  ["the cluster", checkCluster],
  ["the subnets", checkSubnets],
  ["the security groups", checkSecurityGroups, ({ agentMode }) => agentMode !== "callback"],
  ["the file system", checkFileSystem, ({ efsFilesystemId }) => efsFilesystemId !== undefined],
  [
    "the file system's security group",
    checkFileSystemGroup,
    ({ efsSecurityGroupId }) => efsSecurityGroupId !== undefined,
  ],
  ["the log group", checkLogGroup],
  ["the agent's image", checkAgentImage, hasPushedAgent],
];
