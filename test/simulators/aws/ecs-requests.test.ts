/** Tests of the simulated ECS' answers; the tasks only go through the motions. */
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import {
  type ContainerDefinition,
  DeleteTaskDefinitionsCommand,
  DeregisterTaskDefinitionCommand,
  DescribeClustersCommand,
  DescribeTaskDefinitionCommand,
  DescribeTasksCommand,
  type ECSServiceException,
  ListTaskDefinitionsCommand,
  ListTasksCommand,
  type RegisterTaskDefinitionCommandInput,
  type RunTaskCommandInput,
  StopTaskCommand,
  TagResourceCommand,
} from "@aws-sdk/client-ecs";
import { duringTests } from "../../support/during-tests.ts";
import { until } from "../../support/until.ts";
import { EcsScene } from "./ecs-scene.ts";

const hour = 3_600_000;

const scene = duringTests(() => EcsScene.start({ lightweight: true }));
const { aws } = scene;
let cluster: string;

beforeEach(() => {
  ({ cluster } = aws.account);
  aws.quotas.fargateVcpus = 1000;
  aws.quotas.fargateSpotVcpus = 1000;
});

const isError = (name: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Error);
  assert.equal(error.name, name, error.message);
  assert.match(error.message, message);
  return true;
};

const main = (more: Partial<ContainerDefinition> = {}): ContainerDefinition =>
  scene.shell("main", "true", more);

describe("task definitions", () => {
  const refused: readonly (readonly [
    what: string,
    request: () => readonly [ContainerDefinition[], Partial<RegisterTaskDefinitionCommandInput>?],
    message: RegExp,
  ])[] = [
    [
      "a size that Fargate has not",
      () => [[main()], { cpu: "256", memory: "4096" }],
      /No Fargate configuration/,
    ],
    [
      "more than 64 KiB",
      () => [[main({ environment: [{ name: "X", value: "x".repeat(65_000) }] })]],
      /65536 bytes/,
    ],
    [
      "an image's reference of 256 characters",
      () => [[main({ image: `a/${"b".repeat(254)}` })]],
      /up to 255/,
    ],
    ["an image's reference with a query", () => [[main({ image: "a/b?c" })]], /up to 255/],
    ["a role that is no ARN", () => [[main()], { taskRoleArn: "sockerless-task" }], /Role is not valid/],
    [
      "an ARN of something else as a role",
      () => [[main()], { executionRoleArn: "arn:aws:iam::123456789012:user/x" }],
      /Role is not valid/,
    ],
    [
      "an ARN of no account",
      () => [[main()], { taskRoleArn: "arn:aws:iam::12345:role/x" }],
      /Role is not valid/,
    ],
    ["no size", () => [[main()], { cpu: undefined }], /requires that 'cpu'/],
    ["another network mode", () => [[main()], { networkMode: "bridge" }], /network mode/],
    ["NET_ADMIN", () => [[main({ linuxParameters: { capabilities: { add: ["NET_ADMIN"] } } })]], /NET_ADMIN/],
    [
      "kernel.hostname",
      () => [[main({ systemControls: [{ namespace: "kernel.hostname", value: "x" }] })]],
      /system control/,
    ],
    ["two minutes and more to stop", () => [[main({ stopTimeout: 121 })]], /120 seconds/],
    ["logs without a role", () => [[main()], { executionRoleArn: undefined }], /execution role/],
    [
      "a log option that awslogs has not",
      () => [
        [
          main({
            logConfiguration: {
              ...main().logConfiguration,
              logDriver: "awslogs",
              options: { ...main().logConfiguration?.options, tag: "x" },
            },
          }),
        ],
      ],
      /disallows options: tag/,
    ],
    ["another log driver", () => [[main({ logConfiguration: { logDriver: "json-file" } })]], /log driver/],
    ["no essential container", () => [[main({ essential: false })]], /essential/],
    ["two containers of a name", () => [[main(), main()]], /unique/],
    [
      "eleven containers",
      () => [Array.from({ length: 11 }, (_, index) => main({ name: `c${index}` }))],
      /1 to 10/,
    ],
    [
      "a volume that there is not",
      () => [[main({ mountPoints: [{ sourceVolume: "x", containerPath: "/x" }] })]],
      /Unknown volume/,
    ],
    ["a dot in a volume's name", () => [[main()], { volumes: [{ name: "a.b" }] }], /volume name/],
    [
      "an access point without encryption",
      () => [
        [main()],
        {
          volumes: [
            {
              name: "a",
              efsVolumeConfiguration: {
                fileSystemId: "fs-12345678",
                authorizationConfig: { accessPointId: "fsap-12345678" },
              },
            },
          ],
        },
      ],
      /transit encryption/,
    ],
    [
      "a directory and an access point",
      () => [
        [main()],
        {
          volumes: [
            {
              name: "a",
              efsVolumeConfiguration: {
                fileSystemId: "fs-12345678",
                rootDirectory: "/x",
                transitEncryption: "ENABLED",
                authorizationConfig: { accessPointId: "fsap-12345678" },
              },
            },
          ],
        },
      ],
      /root directory/,
    ],
    [
      "a wait for the end of an essential container",
      () => [[main(), main({ name: "b", dependsOn: [{ containerName: "main", condition: "SUCCESS" }] })]],
      /essential container/,
    ],
  ];
  for (const [what, request, message] of refused) {
    test(`${what}: refused`, async () => {
      const [containers, more = {}] = request();
      await assert.rejects(scene.register(containers, more), isError("ClientException", message));
    });
  }

  const notSimulated: readonly (readonly [string, Partial<ContainerDefinition>])[] = [
    ["privileged", { privileged: true }],
    ["sharedMemorySize", { linuxParameters: { sharedMemorySize: 64 } }],
    ["dependsOn.condition", { dependsOn: [{ containerName: "x", condition: "START" }] }],
  ];
  for (const [member, more] of notSimulated) {
    test(`${member}: refused by name, with 501`, async () => {
      await assert.rejects(scene.register([main(more)]), (error: ECSServiceException) => {
        assert.equal(error.$metadata.httpStatusCode, 501);
        assert.equal(error.message, `${member} is not simulated`);
        return true;
      });
    });
  }

  test("with two tags of a key are refused, as by all services", async () => {
    const twice = [
      { key: "a", value: "1" },
      { key: "a", value: "2" },
    ];
    const refused = isError("InvalidParameterException", /two tags with the same key/);
    await assert.rejects(scene.register([main()], { tags: twice }), refused);
  });

  test("are numbered in their family, found by family, revision and ARN, and go in two steps", async () => {
    const family = "numbered";
    const first = await scene.register([main()], { family, tags: [{ key: "a", value: "1" }] });
    const second = await scene.register([main()], { family });
    assert.match(first, /task-definition\/numbered:1$/);
    assert.match(second, /task-definition\/numbered:2$/);
    const described = async (taskDefinition: string) =>
      (await scene.client.send(new DescribeTaskDefinitionCommand({ taskDefinition, include: ["TAGS"] }))) ??
      {};
    assert.equal((await described(family)).taskDefinition?.taskDefinitionArn, second);
    const { taskDefinition, tags } = await described("numbered:1");
    assert.equal(taskDefinition?.taskDefinitionArn, first);
    assert.deepEqual(tags, [{ key: "a", value: "1" }]);

    const remove = new DeleteTaskDefinitionsCommand({ taskDefinitions: [second] });
    const { failures } = await scene.client.send(remove);
    assert.match(failures?.[0]?.reason ?? "", /still in ACTIVE status/);
    await scene.client.send(new DeregisterTaskDefinitionCommand({ taskDefinition: second }));
    assert.equal((await described(family)).taskDefinition?.taskDefinitionArn, first);
    await assert.rejects(scene.run(second), isError("ClientException", /inactive/));
    const inactive = new ListTaskDefinitionsCommand({ familyPrefix: family, status: "INACTIVE" });
    assert.deepEqual((await scene.client.send(inactive)).taskDefinitionArns, [second]);
    await scene.client.send(remove);
    aws.clock.advance(hour);
    await assert.rejects(described(second), isError("ClientException", /Unable to describe/));
    assert.match(await scene.register([main()], { family }), /:3$/);
  });
});

describe("RunTask", () => {
  const refused: readonly (readonly [string, () => Partial<RunTaskCommandInput>, string, RegExp])[] = [
    [
      "a cluster that there is not",
      () => ({ cluster: "none" }),
      "ClusterNotFoundException",
      /Cluster not found/,
    ],
    [
      "no network",
      () => ({ networkConfiguration: undefined }),
      "InvalidParameterException",
      /Network Configuration/,
    ],
    [
      "six groups",
      () => ({ networkConfiguration: scene.network(["1", "2", "3", "4", "5", "6"]) }),
      "InvalidParameterException",
      /at most 5/,
    ],
    [
      "a group that there is not",
      () => ({ networkConfiguration: scene.network(["sg-12345678"]) }),
      "InvalidParameterException",
      /InvalidGroup.NotFound/,
    ],
    [
      "a subnet that there is not",
      () => ({ networkConfiguration: { awsvpcConfiguration: { subnets: ["subnet-1"] } } }),
      "InvalidParameterException",
      /InvalidSubnetID.NotFound/,
    ],
    [
      "a launch type and a strategy",
      () => ({ launchType: "FARGATE", capacityProviderStrategy: [{ capacityProvider: "FARGATE_SPOT" }] }),
      "InvalidParameterException",
      /both a launch type/,
    ],
    [
      "an unknown capacity provider",
      () => ({ launchType: undefined, capacityProviderStrategy: [{ capacityProvider: "mine" }] }),
      "InvalidParameterException",
      /'mine' was not found/,
    ],
    [
      "neither launch type nor strategy",
      () => ({ launchType: undefined }),
      "InvalidParameterException",
      /No Container Instances/,
    ],
    ["two tasks", () => ({ count: 2 }), "ClientException", /count is not simulated/],
    ["a space in startedBy", () => ({ startedBy: "a b" }), "InvalidParameterException", /startedBy/],
    [
      "a long client token",
      () => ({ clientToken: "x".repeat(65) }),
      "InvalidParameterException",
      /clientToken/,
    ],
    [
      "an override of no container",
      () => ({ overrides: { containerOverrides: [{ name: "x" }] } }),
      "InvalidParameterException",
      /not a container in the TaskDefinition/,
    ],
    [
      "long overrides",
      () => ({ overrides: { containerOverrides: [{ name: "main", command: ["x".repeat(8192)] }] } }),
      "InvalidParameterException",
      /at most 8192/,
    ],
    [
      "a size that Fargate has not",
      () => ({ overrides: { cpu: "512" } }),
      "InvalidParameterException",
      /No Fargate configuration/,
    ],
    [
      "a role that there is not",
      () => ({ overrides: { taskRoleArn: "arn:aws:iam::123456789012:role/none" } }),
      "ClientException",
      /unable to assume the role/,
    ],
    [
      "a role that is no ARN",
      () => ({ overrides: { executionRoleArn: "sockerless-execution" } }),
      "ClientException",
      /Role is not valid/,
    ],
    [
      "two tags of a key",
      () => ({
        tags: [
          { key: "a", value: "1" },
          { key: "a", value: "2" },
        ],
      }),
      "InvalidParameterException",
      /two tags with the same key/,
    ],
    [
      "a platform version of old",
      () => ({ platformVersion: "1.3.0" }),
      "InvalidParameterException",
      /platform version/,
    ],
  ];
  for (const [what, more, name, message] of refused) {
    test(`${what}: refused`, async () => {
      const definition = await scene.register([main()]);
      await assert.rejects(scene.run(definition, more()), isError(name, message));
    });
  }

  test("with a token makes a task once; other parameters are a conflict that names the task", async () => {
    const definition = await scene.register([main()]);
    const clientToken = "token-1";
    const taskArn = await scene.run(definition, { clientToken });
    assert.equal(await scene.run(definition, { clientToken }), taskArn);
    await assert.rejects(scene.run(definition, { clientToken, startedBy: "other" }), (error: unknown) => {
      assert.equal((error as Error).name, "ConflictException");
      assert.deepEqual((error as { resourceIds?: string[] }).resourceIds, [taskArn]);
      return true;
    });
    await scene.stop(taskArn);
    assert.equal(await scene.run(definition, { clientToken }), taskArn, "the stopped task is the answer too");
    aws.clock.advance(1.1 * hour);
    assert.notEqual(await scene.run(definition, { clientToken }), taskArn);
  });

  test("fails without an error where there is no capacity or no quota", async () => {
    const definition = await scene.register([main()]);
    aws.ecs.failStarts({ kind: "capacity" });
    const noCapacity = await scene.client.send(scene.runTaskCommand(definition));
    assert.deepEqual(noCapacity.tasks, []);
    assert.match(noCapacity.failures?.[0]?.reason ?? "", /^Capacity is unavailable/);
    aws.quotas.fargateVcpus = 0;
    const { failures } = await scene.client.send(scene.runTaskCommand(definition));
    assert.match(failures?.[0]?.reason ?? "", /reached the limit on the number of vCPUs/);
    const spot = { capacityProviderStrategy: [{ capacityProvider: "FARGATE_SPOT", weight: 1 }] };
    assert.ok(await scene.run(definition, spot), "Spot has a quota of its own");
  });
});

describe("a task", () => {
  test("goes through ECS' states as time passes, and gets its address before it runs", async () => {
    // These delays are so long that only the test lets them pass.
    Object.assign(aws.delays, {
      provisioning: hour,
      pending: hour,
      pull: hour,
      activating: hour,
      stopping: 3 * hour,
    });
    try {
      const taskArn = await scene.run(await scene.register([main()]));
      const seen = async () => {
        const { lastStatus, attachments } = await scene.describe(taskArn);
        const address = attachments?.[0]?.details?.find(({ name }) => name === "privateIPv4Address")?.value;
        return `${lastStatus} ${attachments?.[0]?.status} ${address === undefined ? "without" : "with"} address`;
      };
      assert.equal(await seen(), "PROVISIONING PRECREATED without address");
      const pass = async (expected: string): Promise<void> => {
        aws.clock.advance(hour);
        await until(async () => (await seen()) === expected || undefined);
      };
      await pass("PENDING ATTACHED with address");
      await pass("ACTIVATING ATTACHED with address");
      aws.clock.advance(hour);
      await until(
        async () => (await scene.describe(taskArn)).containers?.[0]?.lastStatus === "RUNNING" || undefined,
      );
      await pass("RUNNING ATTACHED with address");
      await scene.client.send(new StopTaskCommand({ cluster, task: taskArn, reason: "enough" }));
      await until(async () => (await seen()) === "DEACTIVATING ATTACHED with address" || undefined);
      await pass("STOPPING ATTACHED with address");
      await pass("DEPROVISIONING ATTACHED with address");
      await pass("STOPPED DELETED with address");
      assert.equal((await scene.describe(taskArn)).stoppedReason, "enough");
    } finally {
      Object.assign(aws.delays, { provisioning: 0, pending: 0, pull: 0, activating: 0, stopping: 0 });
    }
  });

  test("is named by an ID of 32 or 36 digits or by its ARN, and by nothing else", async () => {
    const describeTask = (task: string) =>
      scene.client.send(new DescribeTasksCommand({ cluster, tasks: [task] }));
    for (const [task, words] of [
      ["abc", /length should be one of \[32,36\]/],
      ["z".repeat(32), /hexadecimal/],
      ["arn:aws:ecs:us-east-1:123456789012:cluster/sockerless", /Invalid identifier/],
      ["arn:aws:ecs:us-east-1:123456789012:task/sockerless/abc", /length should be one of/],
    ] as const) {
      const refused = isError("InvalidParameterException", words);
      await assert.rejects(describeTask(task), refused);
      await assert.rejects(scene.client.send(new StopTaskCommand({ cluster, task })), refused);
    }
    const elsewhere = "arn:aws:ecs:us-east-1:123456789012:task/other/0123456789abcdef0123456789abcdef";
    const refused = isError("InvalidParameterException", /is for cluster other. Your cluster is sockerless/);
    await assert.rejects(describeTask(elsewhere), refused);
    await assert.rejects(scene.client.send(new StopTaskCommand({ cluster, task: elsewhere })), refused);
    const unknown = "arn:aws:ecs:us-east-1:123456789012:task/sockerless/0123456789abcdef0123456789abcdef";
    const { failures } = await describeTask(unknown);
    assert.deepEqual(failures, [{ arn: unknown, reason: "MISSING" }]);
  });

  test("is missing for a while after RunTask where reads lag, and an hour after its end", async () => {
    const definition = await scene.register([main()]);
    aws.switches.eventualConsistencyMs.ecs = hour;
    const taskArn = await scene.run(definition);
    const describeTask = new DescribeTasksCommand({ cluster, tasks: [taskArn] });
    const missing = [{ arn: taskArn, reason: "MISSING" }];
    assert.deepEqual((await scene.client.send(describeTask)).failures, missing);
    aws.clock.advance(hour);
    assert.deepEqual((await scene.client.send(describeTask)).failures, []);
    aws.switches.eventualConsistencyMs.ecs = 0;
    await scene.running(taskArn);
    await scene.stop(taskArn);
    aws.clock.advance(hour / 2);
    assert.deepEqual((await scene.client.send(describeTask)).failures, []);
    aws.clock.advance(hour / 2);
    assert.deepEqual((await scene.client.send(describeTask)).failures, missing);
  });

  test("has its tags until it is told to stop", async () => {
    const taskArn = await scene.run(await scene.register([main()]), { tags: [{ key: "a", value: "1" }] });
    const withTags = new DescribeTasksCommand({ cluster, tasks: [taskArn], include: ["TAGS"] });
    assert.deepEqual((await scene.client.send(withTags)).tasks?.[0]?.tags, [{ key: "a", value: "1" }]);
    assert.deepEqual((await scene.describe(taskArn)).tags, []);
    const more = new TagResourceCommand({ resourceArn: taskArn, tags: [{ key: "b", value: "2" }] });
    await scene.client.send(more);
    const both = [
      { key: "a", value: "1" },
      { key: "b", value: "2" },
    ];
    assert.deepEqual((await scene.client.send(withTags)).tasks?.[0]?.tags, both);
    await scene.stop(taskArn);
    assert.deepEqual((await scene.client.send(withTags)).tasks?.[0]?.tags, []);
    await assert.rejects(scene.client.send(more), isError("InvalidParameterException", /is stopped/));
    await assert.rejects(
      scene.run(await scene.register([main()]), { tags: [{ key: "aws:x", value: "" }] }),
      isError("InvalidParameterException", /reserved/),
    );
  });

  test("is listed by desired status or by who started it, a hundred a page", async () => {
    const definition = await scene.register([main()]);
    const startedBy = "lister";
    const started = [];
    for (let index = 0; index < 3; index += 1) {
      started.push(await scene.run(definition, { startedBy }));
    }
    const list = async (more: object): Promise<string[]> =>
      (await scene.client.send(new ListTasksCommand({ cluster, ...more }))).taskArns ?? [];
    assert.deepEqual(await list({ startedBy }), started);
    await scene.stop(started[0] ?? "");
    assert.deepEqual(await list({ startedBy }), started.slice(1));
    assert.ok((await list({ desiredStatus: "STOPPED" })).includes(started[0] ?? ""));
    await assert.rejects(
      list({ startedBy, desiredStatus: "STOPPED" }),
      isError("InvalidParameterException", /only filter/),
    );
    const page = await scene.client.send(new ListTasksCommand({ cluster, startedBy, maxResults: 1 }));
    assert.deepEqual(page.taskArns, started.slice(1, 2));
    assert.deepEqual(await list({ startedBy, maxResults: 1, nextToken: page.nextToken }), started.slice(2));
    await assert.rejects(
      scene.client.send(
        new DescribeTasksCommand({ cluster, tasks: Array.from({ length: 101 }, (_, i) => `${i}`) }),
      ),
      isError("InvalidParameterException", /at most 100/),
    );
  });

  test("that fails on its way tells why", async () => {
    aws.ecs.failStarts({ kind: "interface" });
    const task = await scene.stopped(await scene.run(await scene.register([main()])));
    assert.equal(task.stopCode, "TaskFailedToStart");
    assert.match(task.stoppedReason ?? "", /network interface provisioning/);
    assert.equal(task.containers?.[0]?.exitCode, undefined);
  });
});

test("a cluster tells how many tasks it has, and one that there is not is missing", async () => {
  const before = await scene.client.send(new DescribeClustersCommand({ clusters: [cluster, "none"] }));
  assert.equal(before.failures?.[0]?.reason, "MISSING");
  const taskArn = await scene.run(await scene.register([main()]));
  await scene.running(taskArn);
  const { clusters } = await scene.client.send(new DescribeClustersCommand({ clusters: [cluster] }));
  assert.equal(clusters?.[0]?.status, "ACTIVE");
  assert.equal(clusters?.[0]?.runningTasksCount, (before.clusters?.[0]?.runningTasksCount ?? 0) + 1);
});

test("a task that nobody knows cannot be stopped", async () => {
  const stop = new StopTaskCommand({ cluster, task: "0".repeat(32) });
  await assert.rejects(scene.client.send(stop), isError("InvalidParameterException", /not found/));
});
