/** The scene of tests of the simulated ECS: an account, an image in a registry, and the SDK's client. */
import assert from "node:assert/strict";
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
import { type Aws, type AwsOptions, startAws } from "./aws.ts";

export class EcsScene implements AsyncDisposable {
  readonly aws: Aws;
  readonly client: ECSClient;
  /** busybox, without a tag that could move. */
  readonly image: string;
  readonly #registry: TestRegistry | undefined;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    aws: Aws,
    registry: TestRegistry | undefined,
    image: string,
    stack: AsyncDisposableStack,
  ) {
    this.aws = aws;
    this.#registry = registry;
    this.image = image;
    this.client = stack.adopt(new ECSClient(aws.clientConfig), (client) => client.destroy());
    this.#stack = stack;
  }

  /** @param image of busybox in a registry that is somebody else's; without it the scene has one of its own */
  static async start(options: AwsOptions = {}, image?: string): Promise<EcsScene> {
    await using stack = new AsyncDisposableStack();
    const registry = image === undefined ? stack.use(await TestRegistry.start()) : undefined;
    const reference = registry === undefined ? (image ?? "") : await pushBusybox(registry);
    const aws = stack.use(await startAws(options));
    return new EcsScene(aws, registry, reference, stack.move());
  }

  /** The registry that the scene has of its own. */
  get registry(): TestRegistry {
    assert.ok(this.#registry !== undefined, "the scene has no registry of its own");
    return this.#registry;
  }

  /** A container that runs a line of shell and logs to CloudWatch. */
  shell(name: string, script: string, more: Partial<ContainerDefinition> = {}): ContainerDefinition {
    return {
      name,
      image: this.image,
      entryPoint: ["/bin/sh", "-c"],
      command: [script],
      logConfiguration: {
        logDriver: "awslogs",
        options: {
          "awslogs-group": this.aws.account.logGroup,
          "awslogs-region": this.aws.region,
          "awslogs-stream-prefix": "test",
        },
      },
      ...more,
    };
  }

  /** Registers a definition for Fargate and answers its ARN. */
  async register(
    containerDefinitions: ContainerDefinition[],
    more: Partial<RegisterTaskDefinitionCommandInput> = {},
  ): Promise<string> {
    const { taskDefinition } = await this.client.send(
      new RegisterTaskDefinitionCommand({
        family: "test",
        networkMode: "awsvpc",
        requiresCompatibilities: ["FARGATE"],
        cpu: "256",
        memory: "512",
        executionRoleArn: this.aws.account.executionRoleArn,
        containerDefinitions,
        ...more,
      }),
    );
    return taskDefinition?.taskDefinitionArn ?? "";
  }

  /** A request that starts one task in the first subnet, in the account's group. */
  runTaskCommand(taskDefinition: string, more: Partial<RunTaskCommandInput> = {}): RunTaskCommand {
    return new RunTaskCommand({
      cluster: this.aws.account.cluster,
      taskDefinition,
      ...(more.capacityProviderStrategy === undefined && { launchType: "FARGATE" as const }),
      networkConfiguration: this.network([this.aws.account.securityGroupId]),
      ...more,
    });
  }

  /** The network of a request. */
  network(securityGroups: string[]): NonNullable<RunTaskCommandInput["networkConfiguration"]> {
    return { awsvpcConfiguration: { subnets: this.aws.account.subnetIds.slice(0, 1), securityGroups } };
  }

  /** Starts a task and answers its ARN. */
  async run(taskDefinition: string, more: Partial<RunTaskCommandInput> = {}): Promise<string> {
    const { tasks, failures } = await this.client.send(this.runTaskCommand(taskDefinition, more));
    assert.deepEqual(failures, []);
    return tasks?.[0]?.taskArn ?? "";
  }

  async describe(taskArn: string): Promise<Task> {
    const { cluster } = this.aws.account;
    const { tasks } = await this.client.send(new DescribeTasksCommand({ cluster, tasks: [taskArn] }));
    assert.ok(tasks?.[0] !== undefined, `${taskArn} is missing`);
    return tasks[0];
  }

  /** Waits until a task runs; one that ends instead fails the test. */
  async running(taskArn: string): Promise<Task> {
    return await until(async () => {
      const task = await this.describe(taskArn);
      assert.equal(task.desiredStatus, "RUNNING", `${task.stopCode}: ${task.stoppedReason}`);
      return task.lastStatus === "RUNNING" ? task : undefined;
    });
  }

  /** Waits until a task has stopped. */
  async stopped(taskArn: string): Promise<Task> {
    return await until(async () => {
      const task = await this.describe(taskArn);
      return task.lastStatus === "STOPPED" ? task : undefined;
    });
  }

  async stop(taskArn: string): Promise<Task> {
    await this.client.send(new StopTaskCommand({ cluster: this.aws.account.cluster, task: taskArn }));
    return await this.stopped(taskArn);
  }

  /** Lines that a container has logged so far. */
  logged(taskArn: string, container: string): string[] {
    const { logs } = this.aws.services;
    const name = `test/${container}/${taskArn.slice(taskArn.lastIndexOf("/") + 1)}`;
    const stream = logs.group(this.aws.account.logGroup).streams.get(name);
    return stream === undefined ? [] : logs.readable(stream).map(({ message }) => message);
  }

  /** Runs one container to its end; answers what it logged. */
  async output(script: string, more: Partial<RegisterTaskDefinitionCommandInput> = {}): Promise<string[]> {
    const taskArn = await this.run(await this.register([this.shell("main", script)], more));
    await this.stopped(taskArn);
    return this.logged(taskArn, "main");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** Pushes busybox and answers its reference by digest. */
export async function pushBusybox(registry: TestRegistry): Promise<string> {
  const { digest } = await registry.push("busybox", "latest", await busyboxImage());
  return `${registry.host}/busybox@${digest}`;
}

/** Name and exit code of each container. */
export function exitCodes(task: Task): Record<string, number | undefined> {
  return Object.fromEntries((task.containers ?? []).map(({ name = "", exitCode }) => [name, exitCode]));
}
