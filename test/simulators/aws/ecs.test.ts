import assert from "node:assert/strict";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import {
  type ContainerDefinition,
  DescribeTasksCommand,
  ECSClient,
  RegisterTaskDefinitionCommand,
  type RegisterTaskDefinitionCommandInput,
  RunTaskCommand,
  type RunTaskCommandInput,
  StopTaskCommand,
  type Task,
} from "@aws-sdk/client-ecs";
import { busyboxImage } from "../../support/images.ts";
import { TestRegistry } from "../../support/registry.ts";
import { until } from "../../support/until.ts";
import { type Aws, startAws } from "./aws.ts";

let stack: AsyncDisposableStack;
let aws: Aws;
let ecs: ECSClient;
let image: string;

before(async () => {
  await using starting = new AsyncDisposableStack();
  aws = starting.use(await startAws());
  const registry = starting.use(await TestRegistry.start());
  await registry.push("busybox", "latest", await busyboxImage());
  image = `${registry.host}/busybox:latest`;
  ecs = starting.adopt(new ECSClient(aws.clientConfig), (client) => client.destroy());
  stack = starting.move();
});

after(() => stack?.disposeAsync());

function shell(name: string, script: string, more: Partial<ContainerDefinition> = {}): ContainerDefinition {
  return {
    name,
    image,
    entryPoint: ["/bin/sh", "-c"],
    command: [script],
    logConfiguration: {
      logDriver: "awslogs",
      options: {
        "awslogs-group": aws.account.logGroup,
        "awslogs-region": aws.region,
        "awslogs-stream-prefix": "test",
      },
    },
    ...more,
  };
}

async function register(
  containerDefinitions: ContainerDefinition[],
  more: Partial<RegisterTaskDefinitionCommandInput> = {},
): Promise<string> {
  const { taskDefinition } = await ecs.send(
    new RegisterTaskDefinitionCommand({
      family: "test",
      networkMode: "awsvpc",
      requiresCompatibilities: ["FARGATE"],
      cpu: "256",
      memory: "512",
      executionRoleArn: aws.account.executionRoleArn,
      containerDefinitions,
      ...more,
    }),
  );
  return taskDefinition?.taskDefinitionArn ?? "";
}

async function runTask(taskDefinition: string, more: Partial<RunTaskCommandInput> = {}): Promise<string> {
  const { tasks, failures } = await ecs.send(
    new RunTaskCommand({
      cluster: aws.account.cluster,
      taskDefinition,
      launchType: "FARGATE",
      networkConfiguration: {
        awsvpcConfiguration: {
          subnets: aws.account.subnetIds.slice(0, 1),
          securityGroups: [aws.account.securityGroupId],
        },
      },
      ...more,
    }),
  );
  assert.deepEqual(failures, []);
  return tasks?.[0]?.taskArn ?? "";
}

async function describe(taskArn: string): Promise<Task> {
  const { tasks } = await ecs.send(
    new DescribeTasksCommand({ cluster: aws.account.cluster, tasks: [taskArn] }),
  );
  assert.ok(tasks?.[0] !== undefined);
  return tasks[0];
}

async function reached(taskArn: string, status: string): Promise<Task> {
  return await until(async () => {
    const task = await describe(taskArn);
    assert.ok(
      status === "STOPPED" || task.desiredStatus === "RUNNING",
      `${task.stopCode}: ${task.stoppedReason}`,
    );
    return task.lastStatus === status ? task : undefined;
  });
}

test("an init container hands a program to the main container, which answers on the task's own address", async () => {
  const shared = { mountPoints: [{ sourceVolume: "tools", containerPath: "/tools" }] };
  const definition = await register(
    [
      shell("init", "cp /bin/busybox /tools/busybox", { essential: false, user: "0", ...shared }),
      shell("main", "", {
        entryPoint: ["/tools/busybox", "nc", "-ll", "-p", "9111", "-e", "/bin/hostname"],
        command: [],
        stopTimeout: 2,
        dependsOn: [{ containerName: "init", condition: "SUCCESS" }],
        ...shared,
      }),
    ],
    { volumes: [{ name: "tools" }] },
  );
  const taskArn = await runTask(definition);
  await reached(taskArn, "RUNNING");
  const address = aws.ecs.task(taskArn).address ?? "";
  const answer = await until(() => readFrom(address, 9111).catch(() => undefined));
  assert.equal(answer.trim(), `ip-${address.replaceAll(".", "-")}.ec2.internal`);
  await ecs.send(new StopTaskCommand({ cluster: aws.account.cluster, task: taskArn }));
  const stopped = await reached(taskArn, "STOPPED");
  assert.equal(stopped.stopCode, "UserInitiated");
  assert.deepEqual(
    stopped.containers?.map(({ name, exitCode }) => [name, exitCode]),
    [
      ["init", 0],
      ["main", 137],
    ],
  );
});

async function readFrom(host: string, port: number): Promise<string> {
  return await text(connect({ host, port }));
}
