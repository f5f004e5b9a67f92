/** A simulated Azure, and a sockerless whose containers run as its jobs, all gone at the end. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { type Azure, type AzureOptions, startAzure } from "../simulators/azure/azure.ts";
import { checkout, Daemon, type DaemonOptions } from "./daemon.ts";
import { freePort } from "./free-port.ts";
import { busyboxImage } from "./images.ts";
import { TestRegistry } from "./registry.ts";
import { tarOf } from "./tar.ts";

type Settings = Readonly<Record<string, unknown>>;

/** Settings of an {@link AcaAccount}. */
export interface AcaAccountOptions {
  readonly azure?: AzureOptions;
  /** Settings of the `aca:` section that differ from what fits the simulated subscription, or what makes them in it. */
  readonly aca?: Settings | ((azure: Azure) => Promise<Settings>);
  /** The checkout of the version whose agent is in the registry; unless said, this one. */
  readonly agentOf?: string;
}

/** Settings of an {@link AcaDaemon}. */
export interface AcaDaemonOptions extends AcaAccountOptions {
  readonly daemon?: DaemonOptions;
}

/** A simulated subscription, a registry that anybody may pull from, and what a backend that uses them is started with. */
export class AcaAccount implements AsyncDisposable {
  readonly azure: Azure;
  /** It has `busybox:latest`, and the agent. */
  readonly registry: TestRegistry;
  /** Directory of the configuration, and of the authority over the agents: `agent-ca.pem`. */
  readonly directory: string;
  /** The `aca:` section. */
  readonly settings: Settings;
  /** Credentials by the default chain, and nothing of the user's. */
  readonly env: Readonly<Record<string, string>>;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    parts: Pick<AcaAccount, "azure" | "registry" | "directory" | "settings" | "env">,
    resources: AsyncDisposableStack,
  ) {
    this.azure = parts.azure;
    this.registry = parts.registry;
    this.directory = parts.directory;
    this.settings = parts.settings;
    this.env = parts.env;
    this.#resources = resources;
  }

  /** Arguments of `sockerless backend aca`. */
  get args(): readonly string[] {
    return ["--config", configIn(this.directory)];
  }

  /** Name of an image in the registry. */
  image(name: string): string {
    return `${this.registry.host}/${name}`;
  }

  /** Replaces the agent in the registry by that of this checkout. */
  async pushAgent(): Promise<void> {
    await pushAgent(this.registry);
  }

  /** Makes one. */
  static async open(options: AcaAccountOptions = {}): Promise<AcaAccount> {
    await using resources = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "skl-aca-"));
    resources.defer(() => rm(directory, { recursive: true, force: true }));
    const registry = resources.use(await TestRegistry.start());
    await registry.push("busybox", "latest", await busyboxImage());
    await pushAgent(registry, options.agentOf);
    const azure = resources.use(await startAzure(options.azure));
    const given = typeof options.aca === "function" ? await options.aca(azure) : options.aca;
    const callback = `${azure.hostAddress}:${await freePort()}`;
    const settings: Settings = {
      ...azure.config,
      agent_ca: join(directory, "agent-ca.pem"),
      agent_image: `${registry.host}/agent:latest`,
      callback_url: `wss://${callback}/sockerless`,
      callback_listen: `tcp://${callback}`,
      ...given,
    };
    await writeFile(configIn(directory), JSON.stringify({ aca: settings })); // JSON is YAML.
    const env = azure.environmentFor();
    return new AcaAccount({ azure, registry, directory, settings, env }, resources.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

function configIn(directory: string): string {
  return join(directory, "config.yaml");
}

/** Pushes the agent of a version as `sockerless aca push-agent` makes an image of it. */
async function pushAgent(registry: TestRegistry, version = checkout): Promise<void> {
  const content = await readFile(join(version, "build/sockerless-agent"));
  await registry.push("agent", "latest", {
    layers: [await tarOf([{ name: "sockerless-agent", mode: 0o755, content }])],
    config: { User: "0", Entrypoint: ["/sockerless-agent"] },
  });
}

/** A simulated subscription and a daemon that uses it. */
export class AcaDaemon implements AsyncDisposable {
  readonly account: AcaAccount;
  readonly daemon: Daemon;
  readonly #resources: AsyncDisposableStack;

  private constructor(account: AcaAccount, daemon: Daemon, resources: AsyncDisposableStack) {
    this.account = account;
    this.daemon = daemon;
    this.#resources = resources;
  }

  /** Starts both; the daemon has busybox. */
  static async start(options: AcaDaemonOptions = {}): Promise<AcaDaemon> {
    await using resources = new AsyncDisposableStack();
    const account = resources.use(await AcaAccount.open(options));
    const daemon = resources.use(
      await Daemon.start({
        ...options.daemon,
        args: ["--backend", "aca", ...account.args, ...(options.daemon?.args ?? [])],
        env: { ...account.env, ...options.daemon?.env },
      }),
    );
    await daemon.ok("pull", account.image("busybox:latest"));
    await daemon.ok("tag", account.image("busybox:latest"), "busybox");
    return new AcaDaemon(account, daemon, resources.move());
  }

  get azure(): Azure {
    return this.account.azure;
  }

  /** Stops an execution as an administrator of the resource group does. */
  async stopInAzure(execution: string): Promise<void> {
    const { endpoint, subscription } = this.azure;
    const job = execution.slice(0, execution.lastIndexOf("-"));
    const group = `/subscriptions/${subscription.subscriptionId}/resourceGroups/${subscription.resourceGroup}`;
    const path = `${group}/providers/Microsoft.App/jobs/${job}/executions/${execution}/stop`;
    await this.azure.trustHere();
    const { ok: isDone } = await fetch(`${endpoint}${path}?api-version=2025-07-01`, {
      method: "POST",
      headers: { authorization: `Bearer ${this.azure.token()}` },
    });
    assert.ok(isDone);
  }

  /** Removes every container, ends everything, and deletes what was written. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}
