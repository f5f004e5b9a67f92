import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";

import {
  CloudWatchLogsClient,
  DescribeLogGroupsCommand,
  GetLogEventsCommand,
} from "@aws-sdk/client-cloudwatch-logs";
import {
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  DeleteSecurityGroupCommand,
  DescribeSubnetsCommand,
  EC2Client,
} from "@aws-sdk/client-ec2";
import { ECRClient, ListImagesCommand } from "@aws-sdk/client-ecr";
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
} from "@aws-sdk/client-ecs";
import {
  CreateAccessPointCommand,
  DeleteAccessPointCommand,
  DescribeAccessPointsCommand,
  DescribeMountTargetsCommand,
  EFSClient,
} from "@aws-sdk/client-efs";
import {
  CreateServiceCommand,
  DeleteServiceCommand,
  DeregisterInstanceCommand,
  ListInstancesCommand,
  RegisterInstanceCommand,
  ServiceDiscoveryClient,
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

  const policy = aws.fillPolicy(await backendPolicy());
  const Statement = policy.Statement.filter(({ Sid }) => Sid !== "NamesInDns");
  const credentials = aws.iam.addUser("without-zone", [{ Statement }]);
  const withoutZone = new ServiceDiscoveryClient({ ...aws.clientConfig, credentials, maxAttempts: 1 });
  await assert.rejects(register("two", withoutZone), denied);
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
  };
  for (const [what, attempt] of Object.entries(attempts)) {
    await assert.rejects(attempt(), denied, what);
  }
  const { Service: own } = await create("web.0123456789ab", [instanceTag]);
  await cloudMap.send(new ListInstancesCommand({ ServiceId: own?.Id }));
  await cloudMap.send(new DeleteServiceCommand({ Id: own?.Id }));
});

test("images: the backend's repository", async () => {
  await using enforced = await startEnforced();
  const { ecr } = enforced;
  await ecr.send(new ListImagesCommand({ repositoryName: "sockerless" }));
  await assert.rejects(ecr.send(new ListImagesCommand({ repositoryName: "other" })), {
    name: "AccessDeniedException",
  });
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
  await ecs.send(new StopTaskCommand({ cluster, task }));
  await assert.rejects(ecs.send(new ListTasksCommand({ cluster: "other" })), denied);
});

test("what the backend never asks for is not its to do: tags of what exists, other people's things, secrets", async () => {
  await using enforced = await startEnforced();
  const { aws } = enforced;
  const policy = aws.fillPolicy(await backendPolicy());
  const arn = (service: string, resource: string) =>
    `arn:aws:${service}:us-east-1:${aws.accountId}:${resource}`;
  const { namespace, logGroup, fileSystem, securityGroupId } = aws.account;
  const instance = { "aws:RequestTag/sockerless-instance": instanceTag.Value };
  const withInstance = { ...instance, "aws:TagKeys": ["sockerless-instance"] };
  const network = {
    "aws:RequestTag/sockerless-network": networkTag.Value,
    "aws:TagKeys": ["sockerless-network"],
  };
  for (const [action, resource, context] of [
    ["ec2:CreateTags", arn("ec2", `security-group/${securityGroupId}`), network],
    ["elasticfilesystem:TagResource", arn("elasticfilesystem", "access-point/fsap-0123456789abcdef0"), {}],
    [
      "elasticfilesystem:DeleteFileSystem",
      arn("elasticfilesystem", `file-system/${fileSystem.fileSystemId}`),
      {},
    ],
    ["logs:DeleteLogGroup", `${arn("logs", `log-group:${logGroup}`)}:log-stream:`, {}],
    ["servicediscovery:DeleteNamespace", arn("servicediscovery", `namespace/${namespace.id}`), {}],
    ["servicediscovery:TagResource", "*", network],
    ["servicediscovery:UntagResource", "*", { "aws:TagKeys": [networkTag.Key] }],
    ["ecr:DeleteRepository", arn("ecr", "repository/sockerless"), {}],
    ["secretsmanager:CreateSecret", arn("secretsmanager", "secret:sockerless/sockerless/ghcr.io-??????"), {}],
    ["ecs:TagResource", arn("ecs", `task/sockerless/${"0".repeat(32)}`), withInstance],
  ] as const) {
    assert.equal(evaluate([policy], { action, resource, context }), "not allowed", action);
  }
  const created = { ...withInstance, "ecs:CreateAction": "RunTask" };
  const task = { action: "ecs:TagResource", resource: arn("ecs", `task/sockerless/${"0".repeat(32)}`) };
  assert.equal(evaluate([policy], { ...task, context: created }), "allowed", "of what a call itself makes");
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
