/** Calls without effects that show whether an action is allowed: reads, and EC2's dry runs. */
import { DescribeLogGroupsCommand } from "@aws-sdk/client-cloudwatch-logs";
import {
  AuthorizeSecurityGroupEgressCommand,
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  DeleteSecurityGroupCommand,
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  RevokeSecurityGroupEgressCommand,
  RevokeSecurityGroupIngressCommand,
} from "@aws-sdk/client-ec2";
import { BatchGetImageCommand, GetAuthorizationTokenCommand, ListImagesCommand } from "@aws-sdk/client-ecr";
import {
  DescribeClustersCommand,
  DescribeTasksCommand,
  ListTaskDefinitionFamiliesCommand,
  ListTaskDefinitionsCommand,
  ListTasksCommand,
} from "@aws-sdk/client-ecs";
import { DescribeMountTargetsCommand } from "@aws-sdk/client-efs";
import { GetServiceQuotaCommand } from "@aws-sdk/client-service-quotas";
import { ListServicesCommand } from "@aws-sdk/client-servicediscovery";

import { messageOf, systemError } from "../../../common/errors.ts";
import { ok, type Result, unknown, wrong } from "../../../common/finding.ts";
import { agentTag } from "../../cloud/images/agent-image.ts";
import { AwsError, isAwsError } from "../aws/errors.ts";
import { repositoryNameOf } from "../ecr/repository.ts";
import { nfsPort, permissionOf } from "../security-groups/rules.ts";
import { networkTag } from "../tags.ts";
import { vcpuQuotaCodes } from "../vcpu-quota.ts";
import type { Surroundings } from "./surroundings.ts";

type Call = (surroundings: Surroundings, abortSignal: AbortSignal) => Promise<unknown>;

/** @returns undefined if every such call would have an effect */
export async function tried(
  action: string,
  surroundings: Surroundings,
  signal: AbortSignal,
): Promise<Result | undefined> {
  const call = calls[action];
  if (call === undefined) {
    return undefined;
  }
  try {
    await call(surroundings, signal);
    return ok("a call was answered");
  } catch (error) {
    if (isAwsError(error, "DryRunOperation")) {
      return ok("a dry run would have succeeded");
    }
    return error instanceof AwsError && error.isDenied && isAbout(action, error)
      ? wrong(error.message)
      : unknown(messageOf(error));
  }
}

/** Whether a refusal is about this action: a call may need other permissions, such as to tag what it creates. */
function isAbout(action: string, { message }: AwsError): boolean {
  const [, refused = action] = /not authorized to perform: (\w+:\w+)/.exec(message) ?? [];
  return refused === action;
}

const creation: Call = async ({ aws, vpc }, abortSignal) =>
  await aws.ec2.send(
    new CreateSecurityGroupCommand({
      GroupName: "sockerless-doctor",
      Description: "a dry run of sockerless doctor",
      VpcId: await vpc(abortSignal),
      TagSpecifications: [{ ResourceType: "security-group", Tags: [{ Key: networkTag, Value: "doctor" }] }],
      DryRun: true,
    }),
    { abortSignal },
  );

type Ec2 = Surroundings["aws"]["ec2"];
type OnGroup = (ec2: Ec2, groupId: string, options: { abortSignal: AbortSignal }) => Promise<unknown>;

/** Tries a call on a network's group, and on the mount targets' if the backend changes that too. */
function onGroups(call: OnGroup, onMountTargets = false): Call {
  return async ({ aws, config, groupOfNetwork }, abortSignal) => {
    const group = await groupOfNetwork(abortSignal);
    if (group === undefined) {
      throw systemError("no security group of a network is there to try it on");
    }
    const { efsSecurityGroupId } = config;
    const others = onMountTargets && efsSecurityGroupId !== undefined ? [efsSecurityGroupId] : [];
    for (const each of others) {
      await call(aws.ec2, each, { abortSignal }).catch((error: unknown) => {
        if (!isAwsError(error, "DryRunOperation")) {
          throw error;
        }
      });
    }
    await call(aws.ec2, group, { abortSignal });
  };
}

const ruleOf = (GroupId: string) => ({
  GroupId,
  IpPermissions: [permissionOf({ tcpPort: nfsPort, peer: { group: GroupId } })],
  DryRun: true,
});

const calls: Readonly<Record<string, Call>> = {
  "ec2:AuthorizeSecurityGroupEgress": onGroups((ec2, id, options) =>
    ec2.send(new AuthorizeSecurityGroupEgressCommand(ruleOf(id)), options),
  ),
  "ec2:AuthorizeSecurityGroupIngress": onGroups(
    (ec2, id, options) => ec2.send(new AuthorizeSecurityGroupIngressCommand(ruleOf(id)), options),
    true,
  ),
  "ec2:CreateSecurityGroup": creation,
  "ec2:CreateTags": creation,
  "ec2:DeleteSecurityGroup": onGroups((ec2, GroupId, options) =>
    ec2.send(new DeleteSecurityGroupCommand({ GroupId, DryRun: true }), options),
  ),
  "ec2:DescribeSecurityGroups": ({ aws, config }, abortSignal) =>
    aws.ec2.send(new DescribeSecurityGroupsCommand({ GroupIds: config.securityGroups, DryRun: true }), {
      abortSignal,
    }),
  "ec2:DescribeSubnets": ({ aws, config }, abortSignal) =>
    aws.ec2.send(new DescribeSubnetsCommand({ SubnetIds: config.subnets, DryRun: true }), { abortSignal }),
  "ec2:RevokeSecurityGroupEgress": onGroups((ec2, id, options) =>
    ec2.send(new RevokeSecurityGroupEgressCommand(ruleOf(id)), options),
  ),
  "ec2:RevokeSecurityGroupIngress": onGroups(
    (ec2, id, options) => ec2.send(new RevokeSecurityGroupIngressCommand(ruleOf(id)), options),
    true,
  ),
  "ecr:BatchGetImage": ({ aws, config }, abortSignal) =>
    aws.ecr.send(
      new BatchGetImageCommand({
        repositoryName: repositoryNameOf(config.ecrRepository ?? ""),
        imageIds: [{ imageTag: agentTag(config.architecture) }],
      }),
      { abortSignal },
    ),
  "ecr:GetAuthorizationToken": ({ aws }, abortSignal) =>
    aws.ecr.send(new GetAuthorizationTokenCommand({}), { abortSignal }),
  "ecr:ListImages": ({ aws, config }, abortSignal) =>
    aws.ecr.send(
      new ListImagesCommand({ repositoryName: repositoryNameOf(config.ecrRepository ?? ""), maxResults: 1 }),
      {
        abortSignal,
      },
    ),
  "ecs:DescribeClusters": ({ aws, config }, abortSignal) =>
    aws.ecs.send(new DescribeClustersCommand({ clusters: [config.cluster] }), { abortSignal }),
  "ecs:DescribeTasks": ({ aws, config: { cluster } }, abortSignal) =>
    aws.ecs.send(new DescribeTasksCommand({ cluster, tasks: ["0".repeat(32)] }), { abortSignal }),
  "ecs:ListTaskDefinitionFamilies": ({ aws }, abortSignal) =>
    aws.ecs.send(new ListTaskDefinitionFamiliesCommand({ maxResults: 1 }), { abortSignal }),
  "ecs:ListTaskDefinitions": ({ aws }, abortSignal) =>
    aws.ecs.send(new ListTaskDefinitionsCommand({ maxResults: 1 }), { abortSignal }),
  "ecs:ListTasks": ({ aws, config: { cluster } }, abortSignal) =>
    aws.ecs.send(new ListTasksCommand({ cluster, maxResults: 1 }), { abortSignal }),
  "elasticfilesystem:DescribeMountTargets": ({ aws, config }, abortSignal) =>
    aws.efs.send(new DescribeMountTargetsCommand({ FileSystemId: config.efsFilesystemId }), { abortSignal }),
  "logs:DescribeLogGroups": ({ aws, config }, abortSignal) =>
    aws.logs.send(new DescribeLogGroupsCommand({ logGroupNamePrefix: config.logGroup }), { abortSignal }),
  "servicediscovery:ListServices": ({ aws }, abortSignal) =>
    aws.serviceDiscovery.send(new ListServicesCommand({ MaxResults: 1 }), { abortSignal }),
  "servicequotas:GetServiceQuota": ({ aws }, abortSignal) =>
    aws.serviceQuotas.send(
      new GetServiceQuotaCommand({ ServiceCode: "fargate", QuotaCode: vcpuQuotaCodes.onDemand }),
      { abortSignal },
    ),
};
