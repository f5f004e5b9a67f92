/** The scene of tests of the simulated Azure: a subscription, an image in a registry, and requests by hand. */
import assert from "node:assert/strict";

import { busyboxImage } from "../../support/images.ts";
import { TestRegistry } from "../../support/registry.ts";
import { until, untilTrue } from "../../support/until.ts";
import { type Azure, type AzureOptions, startAzure } from "./azure.ts";
import type { SeenExecution } from "./services/app/executions.ts";

/** An answer of Resource Manager, read. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests look at any part of an answer
  readonly body: any;
}

/** A container of a job, as its PUT has it. */
export interface ContainerInput {
  readonly name: string;
  readonly image?: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly object[];
  readonly resources?: object;
  readonly volumeMounts?: readonly object[];
}

/** Parts of a job that a test varies. */
export interface JobInput {
  readonly containers?: readonly ContainerInput[];
  readonly initContainers?: readonly ContainerInput[];
  readonly volumes?: readonly object[];
  readonly configuration?: object;
  readonly tags?: Readonly<Record<string, string>>;
  readonly identity?: object;
}

export class AzureScene implements AsyncDisposable {
  readonly azure: Azure;
  /** busybox, without a tag that could move. */
  readonly image: string;
  readonly #stack: AsyncDisposableStack;

  private constructor(azure: Azure, image: string, stack: AsyncDisposableStack) {
    this.azure = azure;
    this.image = image;
    this.#stack = stack;
  }

  static async start(options: AzureOptions = {}): Promise<AzureScene> {
    await using stack = new AsyncDisposableStack();
    const image = options.lightweight === true ? "busybox" : await pushBusybox(stack);
    const azure = stack.use(await startAzure(options));
    await azure.trustHere();
    return new AzureScene(azure, image, stack.move());
  }

  /** Asks Resource Manager. @param path after the resource group, or the subscription where it begins with `/` */
  async ask(
    method: string,
    path: string,
    body?: unknown,
    { token = this.azure.token(), version = "2025-07-01" }: { token?: string; version?: string } = {},
  ): Promise<Answer> {
    const { subscriptionId, resourceGroup } = this.azure.subscription;
    const whole = path.startsWith("/") ? path : `/resourceGroups/${resourceGroup}/providers/${path}`;
    const query = `${path.includes("?") ? "&" : "?"}api-version=${version}`;
    return await this.follow(`${this.azure.endpoint}/subscriptions/${subscriptionId}${whole}${query}`, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body !== undefined && { "content-type": "application/json" }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
  }

  /** Asks at a whole URL. */
  async follow(url: string, init: RequestInit = {}): Promise<Answer> {
    const headers = { authorization: `Bearer ${this.azure.token()}`, ...(init.headers as object) };
    const answer = await fetch(url, { ...init, headers });
    const text = await answer.text();
    return {
      status: answer.status,
      headers: answer.headers,
      body: text === "" ? undefined : JSON.parse(text),
    };
  }

  /** The body of a job with one container that runs a line of shell. */
  job(script: string, more: JobInput = {}): object {
    const { environmentId, location } = this.azure.subscription;
    const { configuration, tags, identity, ...template } = more;
    const whole = (container: ContainerInput): object => ({
      image: this.image,
      resources: { cpu: 0.25, memory: "0.5Gi" },
      ...container,
    });
    const main = { name: "main", command: ["/bin/sh", "-c"], args: [script] };
    return {
      location,
      ...(tags !== undefined && { tags }),
      ...(identity !== undefined && { identity }),
      properties: {
        environmentId,
        configuration: {
          triggerType: "Manual",
          replicaTimeout: 600,
          replicaRetryLimit: 0,
          manualTriggerConfig: { replicaCompletionCount: 1, parallelism: 1 },
          ...configuration,
        },
        template: {
          ...template,
          containers: (template.containers ?? [main]).map(whole),
          ...(template.initContainers !== undefined && {
            initContainers: template.initContainers.map(whole),
          }),
        },
      },
    };
  }

  /** Writes a job. */
  async write(name: string, script: string, more: JobInput = {}): Promise<void> {
    const { status, body } = await this.ask("PUT", `Microsoft.App/jobs/${name}`, this.job(script, more));
    assert.ok(status === 200 || status === 201, JSON.stringify(body));
  }

  /** Starts a job and answers the execution's name. */
  async start(name: string, template?: object): Promise<string> {
    const { status, body } = await this.ask("POST", `Microsoft.App/jobs/${name}/start`, template);
    assert.ok(status === 200 || status === 202, JSON.stringify(body));
    return body.name;
  }

  /** The status of an execution, as the API tells it. */
  async status(job: string, execution: string): Promise<string> {
    const { body } = await this.ask("GET", `Microsoft.App/jobs/${job}/executions/${execution}`);
    return body.properties.status;
  }

  /** Waits for the end of an execution. */
  async ended(execution: string): Promise<SeenExecution> {
    await this.azure.app.execution(execution).finished;
    return this.azure.app.execution(execution);
  }

  /** Lets simulated time pass until an execution has ended. */
  async endedInTime(execution: string): Promise<SeenExecution> {
    await untilTrue(() => {
      this.azure.clock.advance(10_000);
      const status = this.azure.app.execution(execution).status;
      return status !== "Running" && status !== "Processing";
    });
    return await this.ended(execution);
  }

  /** Waits until the containers of an execution run. */
  async running(execution: string): Promise<SeenExecution> {
    return await until(() => {
      const seen = this.azure.app.execution(execution);
      assert.ok(seen.status === "Running" || seen.status === "Processing", JSON.stringify(seen.ends));
      return seen.pids.has("main") ? seen : undefined;
    });
  }

  /** Waits until an execution has written a line: its process is at work then, and has its signal handlers. */
  async said(execution: string, line: string): Promise<void> {
    await untilTrue(() => this.azure.app.linesOf(execution).includes(line));
  }

  /** Waits for the first reason why a container of an execution ended or did not begin. */
  async complaint(execution: string): Promise<string> {
    return await until(() => this.azure.app.execution(execution).ends[0]?.reason);
  }

  /** Runs one container to its end; answers what it logged. */
  async output(name: string, script: string, more: JobInput = {}): Promise<string[]> {
    await this.write(name, script, more);
    const execution = await this.start(name);
    await this.ended(execution);
    return this.azure.app.linesOf(execution);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

async function pushBusybox(stack: AsyncDisposableStack): Promise<string> {
  const registry = stack.use(await TestRegistry.start());
  const { digest } = await registry.push("busybox", "latest", await busyboxImage());
  return `${registry.host}/busybox@${digest}`;
}
