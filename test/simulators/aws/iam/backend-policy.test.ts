import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";

import {
  CloudWatchLogsClient,
  DeleteLogGroupCommand,
  DescribeLogGroupsCommand,
  GetLogEventsCommand,
} from "@aws-sdk/client-cloudwatch-logs";
import {
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  CreateTagsCommand,
  DeleteSecurityGroupCommand,
  DescribeSubnetsCommand,
  EC2Client,
} from "@aws-sdk/client-ec2";
import { DeleteRepositoryCommand, ECRClient, ListImagesCommand } from "@aws-sdk/client-ecr";
import {
  DescribeClustersCommand,
  DescribeTasksCommand,
  ECSClient,
  ListTasksCommand,
  RegisterTaskDefinitionCommand,
  type RegisterTaskDefinitionCommandInput,
  RunTaskCommand,
  type RunTaskCommandInput,
  StopTaskCommand,
  TagResourceCommand as TagResourceOfEcsCommand,
} from "@aws-sdk/client-ecs";
import {
  CreateAccessPointCommand,
  DeleteAccessPointCommand,
  DescribeAccessPointsCommand,
  DescribeMountTargetsCommand,
  EFSClient,
  TagResourceCommand as TagResourceOfEfsCommand,
} from "@aws-sdk/client-efs";
import { CreateSecretCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import {
  CreateServiceCommand,
  DeleteNamespaceCommand,
  DeleteServiceCommand,
  DeregisterInstanceCommand,
  ListInstancesCommand,
  RegisterInstanceCommand,
  ServiceDiscoveryClient,
  TagResourceCommand,
  UntagResourceCommand,
} from "@aws-sdk/client-servicediscovery";

import { startAws } from "../aws.ts";
import { evaluate } from "./policy.ts";

/** The documented policy of the backend; compiled code lies elsewhere than it. */
async function backendPolicy(): Promise<string> {
  let folder = import.meta.dirname;
  while (!existsSync(join(folder, "package.json"))) {
    folder = dirname(folder);
  }
  return readFile(join(folder, "deploy/iam/backend-policy.json"), "utf8");
}

/** An account that enforces policies, and clients that have the backend's. */
async function startEnforced() {
  const aws = await startAws({ lightweight: true });
  const credentials = aws.iam.addUser("backend", [aws.fillPolicy(await backendPolicy())]);
  aws.iam.enforced = true;
  const config = { ...aws.clientConfig, credentials, maxAttempts: 1 };
  return {
    aws,
    ecs: new ECSClient(config),
    ec2: new EC2Client(config),
    efs: new EFSClient(config),
    logs: new CloudWatchLogsClient(config),
    ecr: new ECRClient(config),
    cloudMap: new ServiceDiscoveryClient(config),
    secrets: new SecretsManagerClient(config),
    [Symbol.asyncDispose]: () => aws.stop(),
  };
}

const networkTag = { Key: "sockerless-network", Value: "0123456789ab" };
const instanceTag = { Key: "sockerless-instance", Value: "sockerless/0123456789abcdef" };

test("networks: the backend's own groups are its to make, fill and delete, others are not", async () => {
  await using enforced = await startEnforced();
  const { aws, ec2 } = enforced;
  const create = (GroupName: string, Tags: { Key: string; Value: string }[]) =>
    ec2.send(
      new CreateSecurityGroupCommand({
        GroupName,
        Description: "x",
        VpcId: aws.account.vpcId,
        TagSpecifications: [{ ResourceType: "security-group", Tags }],
      }),
    );
  const denied = { name: "UnauthorizedOperation" };
  await assert.rejects(create("untagged", []), denied);
  await assert.rejects(create("other", [{ Key: "Name", Value: "x" }]), denied);
  const { GroupId } = await create("sockerless-net-0123456789ab", [networkTag]);
  const ingress = (groupId: string | undefined) =>
    ec2.send(
      new AuthorizeSecurityGroupIngressCommand({
        GroupId: groupId,
        IpPermissions: [{ IpProtocol: "tcp", FromPort: 2049, ToPort: 2049, UserIdGroupPairs: [{ GroupId }] }],
      }),
    );
  await ingress(GroupId);
  await ec2.send(new DescribeSubnetsCommand());
  await assert.rejects(ingress(aws.account.securityGroupId), denied);
  await assert.rejects(
    ec2.send(new CreateTagsCommand({ Resources: [aws.account.securityGroupId], Tags: [networkTag] })),
    denied,
  );
  await assert.rejects(
    ec2.send(new DeleteSecurityGroupCommand({ GroupId: aws.account.securityGroupId })),
    /user\/backend is not authorized to perform: ec2:DeleteSecurityGroup on resource: arn:aws:ec2:.*:security-group\/sg-\w+ because no identity-based policy allows/,
  );
  await ec2.send(new DeleteSecurityGroupCommand({ GroupId }));
  // The group of the mount targets is the exception.
  await assert.rejects(ingress(aws.account.efsSecurityGroupId), { name: "InvalidGroup.NotFound" });
});

test("volumes: the backend's own access points on its file system", async () => {
  await using enforced = await startEnforced();
  const { aws, efs } = enforced;
  const { fileSystemId: FileSystemId } = aws.account.fileSystem;
  const create = (key: string) =>
    efs.send(new CreateAccessPointCommand({ FileSystemId, Tags: [{ Key: key, Value: "cache" }] }));
  const { AccessPointId } = await create("sockerless-volume");
  const { AccessPointId: other } = await create("other");
  await efs.send(new DescribeMountTargetsCommand({ FileSystemId }));
  await efs.send(new DescribeAccessPointsCommand({ FileSystemId }));
  await efs.send(new DeleteAccessPointCommand({ AccessPointId }));
  const denied = { name: "AccessDeniedException" };
  await assert.rejects(efs.send(new DeleteAccessPointCommand({ AccessPointId: other })), denied);
  const Tags = [{ Key: "sockerless-volume", Value: "cache" }];
  await assert.rejects(efs.send(new TagResourceOfEfsCommand({ ResourceId: other, Tags })), denied);
  await assert.rejects(
    efs.send(new DescribeMountTargetsCommand({ FileSystemId: "fs-0123456789abcdef0" })),
    denied,
  );
});

test("logs: reading the backend's group", async () => {
  await using enforced = await startEnforced();
  const { aws, logs } = enforced;
  const { logGroup: logGroupName } = aws.account;
  aws.services.logs.createStream(logGroupName, "main");
  await logs.send(new DescribeLogGroupsCommand());
  await logs.send(new GetLogEventsCommand({ logGroupName, logStreamName: "main" }));
  const denied = { name: "AccessDeniedException" };
  await assert.rejects(
    logs.send(new GetLogEventsCommand({ logGroupName: "x", logStreamName: "main" })),
    denied,
  );
  await assert.rejects(logs.send(new DeleteLogGroupCommand({ logGroupName })), denied);
});

test("names: services and instances of the backend's namespace, with or without rights on its zone", async () => {
  await using enforced = await startEnforced();
  const { aws, cloudMap } = enforced;
  const { id: NamespaceId } = aws.account.namespace;
  const { Service } = await cloudMap.send(
    new CreateServiceCommand({ Name: "web.0123456789ab", NamespaceId, Tags: [instanceTag] }),
  );
  const register = (InstanceId: string, config = cloudMap) =>
    config.send(
      new RegisterInstanceCommand({
        ServiceId: Service?.Id,
        InstanceId,
        Attributes: { AWS_INSTANCE_IPV4: "10.0.0.4" },
      }),
    );
  await register("one");
  const denied = { name: "AccessDeniedException" };
  await assert.rejects(cloudMap.send(new DeleteNamespaceCommand({ Id: NamespaceId })), denied);

  const policy = aws.fillPolicy(await backendPolicy());
  const Statement = policy.Statement.filter(({ Sid }) => Sid !== "NamesInDns");
  const credentials = aws.iam.addUser("without-zone", [{ Statement }]);
  const withoutZone = new ServiceDiscoveryClient({ ...aws.clientConfig, credentials, maxAttempts: 1 });
  await assert.rejects(register("two", withoutZone), denied);
  aws.switches.cloudMapNeedsRoute53Rights = false;
  await register("two", withoutZone);
});

test("names: services are made with the backend's tag and no other, and those without it are not its own", async () => {
  await using enforced = await startEnforced();
  const { aws, cloudMap } = enforced;
  const denied = { name: "AccessDeniedException" };
  const { id: NamespaceId } = aws.account.namespace;
  const create = (Name: string, Tags?: { Key: string; Value: string }[]) =>
    cloudMap.send(new CreateServiceCommand({ Name, NamespaceId, Tags }));
  await assert.rejects(create("untagged"), denied);
  await assert.rejects(create("other", [networkTag]), denied);
  await assert.rejects(create("both", [instanceTag, networkTag]), denied);
  const elsewhere = aws.services.cloudMap.addNamespace("elsewhere.internal").id;
  await assert.rejects(
    cloudMap.send(new CreateServiceCommand({ Name: "x", NamespaceId: elsewhere, Tags: [instanceTag] })),
    denied,
  );

  const administrator = new ServiceDiscoveryClient({ ...aws.clientConfig, maxAttempts: 1 });
  const { Service: foreign } = await administrator.send(
    new CreateServiceCommand({ Name: "docker", NamespaceId, Tags: [networkTag] }),
  );
  const instance = { ServiceId: foreign?.Id, InstanceId: "one" };
  const Attributes = { AWS_INSTANCE_IPV4: "10.0.0.4" };
  await administrator.send(new RegisterInstanceCommand({ ...instance, Attributes }));
  const attempts = {
    register: () => cloudMap.send(new RegisterInstanceCommand({ ...instance, Attributes })),
    deregister: () => cloudMap.send(new DeregisterInstanceCommand(instance)),
    list: () => cloudMap.send(new ListInstancesCommand({ ServiceId: foreign?.Id })),
    delete: () => cloudMap.send(new DeleteServiceCommand({ Id: foreign?.Id })),
    "take its tags": () =>
      cloudMap.send(new UntagResourceCommand({ ResourceARN: foreign?.Arn, TagKeys: [networkTag.Key] })),
    "give it another tag": () =>
      cloudMap.send(new TagResourceCommand({ ResourceARN: foreign?.Arn, Tags: [networkTag] })),
  };
  for (const [what, attempt] of Object.entries(attempts)) {
    await assert.rejects(attempt(), denied, what);
  }
  const { Service: own } = await create("web.0123456789ab", [instanceTag]);
  await cloudMap.send(new ListInstancesCommand({ ServiceId: own?.Id }));
  await cloudMap.send(new DeleteServiceCommand({ Id: own?.Id }));
});

test("images: the backend's repository; secrets: none", async () => {
  await using enforced = await startEnforced();
  const { ecr, secrets } = enforced;
  await ecr.send(new ListImagesCommand({ repositoryName: "sockerless" }));
  const denied = { name: "AccessDeniedException" };
  await assert.rejects(ecr.send(new ListImagesCommand({ repositoryName: "other" })), denied);
  await assert.rejects(
    ecr.send(new DeleteRepositoryCommand({ repositoryName: "sockerless", force: true })),
    denied,
  );
  const Name = "sockerless/sockerless/ghcr.io";
  await assert.rejects(secrets.send(new CreateSecretCommand({ Name, SecretString: "x" })), denied);
});

test("tasks: the backend's families on its cluster, with its two roles", async () => {
  await using enforced = await startEnforced();
  const { aws, ecs } = enforced;
  const { cluster, executionRoleArn, taskRoleArn } = aws.account;
  const denied = { name: "AccessDeniedException" };
  const definition: RegisterTaskDefinitionCommandInput = {
    family: "sockerless-0123456789ab",
    networkMode: "awsvpc",
    requiresCompatibilities: ["FARGATE"],
    cpu: "256",
    memory: "512",
    executionRoleArn,
    taskRoleArn,
    containerDefinitions: [{ name: "main", image: `${aws.account.repositoryUri}:v1` }],
    tags: [{ key: "sockerless-instance", value: "one" }],
  };
  const register = (changes: Partial<RegisterTaskDefinitionCommandInput>) =>
    ecs.send(new RegisterTaskDefinitionCommand({ ...definition, ...changes }));
  await assert.rejects(register({ family: "other" }), denied);
  const otherRole = aws.iam.addRole("other", { trusted: ["ecs-tasks.amazonaws.com"], policies: [] });
  await assert.rejects(register({ taskRoleArn: otherRole }), /iam:PassRole on resource: .*:role\/other/);
  const { taskDefinition } = await register({});

  aws.ecs.clusters.add("other");
  const run = (changes: Partial<RunTaskCommandInput>) =>
    ecs.send(
      new RunTaskCommand({
        cluster,
        taskDefinition: taskDefinition?.taskDefinitionArn,
        launchType: "FARGATE",
        networkConfiguration: {
          awsvpcConfiguration: {
            subnets: [...aws.account.subnetIds],
            securityGroups: [aws.account.securityGroupId],
          },
        },
        overrides: { executionRoleArn, taskRoleArn },
        tags: [{ key: "sockerless-instance", value: "one" }],
        ...changes,
      }),
    );
  await assert.rejects(run({ cluster: "other" }), denied);
  await assert.rejects(run({ cluster: "other", tags: [] }), /ecs:RunTask on resource/);
  await assert.rejects(run({ overrides: { taskRoleArn: otherRole } }), denied);
  const { tasks: started = [], failures } = await run({});
  assert.deepEqual(failures, []);
  const task = started[0]?.taskArn ?? "";
  await ecs.send(new ListTasksCommand({ cluster }));
  await ecs.send(new DescribeTasksCommand({ cluster, tasks: [task], include: ["TAGS"] }));
  await ecs.send(new DescribeClustersCommand({ clusters: [cluster] }));
  const tags = [{ key: "sockerless-instance", value: "other" }];
  await assert.rejects(ecs.send(new TagResourceOfEcsCommand({ resourceArn: task, tags })), denied);
  await ecs.send(new StopTaskCommand({ cluster, task }));
  await assert.rejects(ecs.send(new ListTasksCommand({ cluster: "other" })), denied);
});

test("tasks: the two roles are passed to ECS' tasks, and to no other service", async () => {
  await using enforced = await startEnforced();
  const { aws } = enforced;
  const policy = aws.fillPolicy(await backendPolicy());
  for (const resource of [aws.account.executionRoleArn, aws.account.taskRoleArn]) {
    const passedTo = (service: string) =>
      evaluate([policy], { action: "iam:PassRole", resource, context: { "iam:PassedToService": service } });
    assert.equal(passedTo("ecs-tasks.amazonaws.com"), "allowed");
    assert.equal(passedTo("ec2.amazonaws.com"), "not allowed");
  }
});
