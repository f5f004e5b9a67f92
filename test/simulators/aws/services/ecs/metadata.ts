/** The endpoint at 169.254.170.2, which has the credentials of tasks' roles. */
import { createServer, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { randomUUID } from "node:crypto";

import type { Context } from "../../context.ts";

/** How long credentials last that a task is given. */
const credentialsMs = 6 * 60 * 60 * 1000;

/** The endpoint, without what it tells of tasks at AWS. */
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
    credentials: TaskCredentials,
  ): Promise<MetadataEndpoint> {
    const server = createServer((request, response) => {
      const id = /^\/v2\/credentials\/([0-9a-f-]+)$/.exec(request.url ?? "")?.[1] ?? "";
      const answer = keysOf(context, credentials.find(id));
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
