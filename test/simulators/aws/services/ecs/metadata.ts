/** The endpoint at 169.254.170.2: what containers can learn of their task, and their role's credentials. */
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { randomUUID } from "node:crypto";

import type { Context } from "../../context.ts";
import type { TaskState } from "./task-state.ts";

/** How long credentials last that a task is given. */
const credentialsMs = 6 * 60 * 60 * 1000;

/** Tells a container of itself, by the token in its `ECS_CONTAINER_METADATA_URI_V4`: its task's ID and its name. */
export class MetadataEndpoint implements AsyncDisposable {
  readonly port: number;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  /** @param address of this machine in the VPC */
  static async start(
    context: Context,
    address: string,
    findTask: (taskId: string) => TaskState | undefined,
    credentials: TaskCredentials,
  ): Promise<MetadataEndpoint> {
    const server = createServer((request, response) => {
      const answer = answerTo(context, request.url ?? "", findTask, credentials);
      response.writeHead(answer === undefined ? 404 : 200, { "content-type": "application/json" });
      response.end(answer === undefined ? "" : JSON.stringify(answer));
    });
    server.listen(0, address);
    await once(server, "listening");
    return new MetadataEndpoint(server);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }
}

/** The roles of tasks, by the ID in `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`. */
export class TaskCredentials {
  readonly #roles = new Map<string, { readonly roleArn: string; readonly taskId: string }>();

  /** Answers the ID for a task's role. */
  issue(roleArn: string, taskId: string): string {
    const id = randomUUID();
    this.#roles.set(id, { roleArn, taskId });
    return id;
  }

  find(id: string): { readonly roleArn: string; readonly taskId: string } | undefined {
    return this.#roles.get(id);
  }
}

function answerTo(
  context: Context,
  url: string,
  findTask: (taskId: string) => TaskState | undefined,
  credentials: TaskCredentials,
): object | undefined {
  const credentialsId = /^\/v2\/credentials\/([0-9a-f-]+)$/.exec(url)?.[1];
  if (credentialsId !== undefined) {
    return keysOf(context, credentials.find(credentialsId));
  }
  const [, taskId = "", name = "", rest] = /^\/v4\/([0-9a-f]{32})-([^/]+)(\/task)?$/.exec(url) ?? [];
  const task = findTask(taskId)?.describe();
  if (task === undefined) {
    return undefined;
  }
  const containers = (task.containers ?? []).map((container) => ({
    DockerId: container.runtimeId,
    Name: container.name,
    DockerName: container.name,
    Image: container.image,
    ImageID: container.imageDigest,
    DesiredStatus: task.desiredStatus,
    KnownStatus: container.lastStatus,
    ExitCode: container.exitCode,
    Type: "NORMAL",
    ContainerARN: container.containerArn,
    Networks: (container.networkInterfaces ?? []).map(({ privateIpv4Address }) => ({
      NetworkMode: "awsvpc",
      IPv4Addresses: [privateIpv4Address],
    })),
  }));
  if (rest === undefined) {
    return containers.find((container) => container.Name === name);
  }
  const [family, revision] = (task.taskDefinitionArn ?? "").split("/").at(-1)?.split(":") ?? [];
  return {
    Cluster: task.clusterArn,
    TaskARN: task.taskArn,
    Family: family,
    Revision: revision,
    DesiredStatus: task.desiredStatus,
    KnownStatus: task.lastStatus,
    Containers: containers,
    LaunchType: task.launchType,
    AvailabilityZone: task.availabilityZone,
    PullStartedAt: task.pullStartedAt,
    PullStoppedAt: task.pullStoppedAt,
  };
}

function keysOf(
  { iam, clock }: Context,
  given: { readonly roleArn: string; readonly taskId: string } | undefined,
): object | undefined {
  const keys = given === undefined ? undefined : iam.assumeRole(given.roleArn, given.taskId);
  return keys === undefined
    ? undefined
    : {
        RoleArn: given?.roleArn,
        AccessKeyId: keys.accessKeyId,
        SecretAccessKey: keys.secretAccessKey,
        Token: "token",
        Expiration: new Date(clock.nowMs() + credentialsMs).toISOString(),
      };
}
