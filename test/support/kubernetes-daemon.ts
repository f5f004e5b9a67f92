/** A sockerless whose containers are pods of a real Kubernetes. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { runCommand } from "./command.ts";
import { checkout, Daemon, type DaemonOptions } from "./daemon.ts";
import { duringTests } from "./during-tests.ts";
import { Cluster } from "./kubernetes-cluster.ts";
import { node } from "./kubernetes-node.ts";

/** How agents of pods are reached. */
export const agentWays = ["api-server", "direct", "callback"] as const;
export type AgentWay = (typeof agentWays)[number];

/** Nobody else listens in the tests' network: each daemon has the next. */
let callbackPort = 18_443;

/** Settings of the `kubernetes:` section for a way to agents, on the cluster of the tests. */
export function settingsOf(way: AgentWay): Readonly<Record<string, string>> {
  return {
    agent_mode: way,
    ...(way === "callback" ? { callback_url: `wss://${node}:${callbackPort++}/sockerless` } : {}),
  };
}

/** Settings of a {@link KubernetesAccount}. */
export interface KubernetesAccountOptions {
  /** Settings of the `kubernetes:` section that differ from what fits the cluster. */
  readonly kubernetes?: Readonly<Record<string, unknown>>;
  /** Prepares the namespace that was just made. @returns the kubeconfig to be used; undefined: the administrator's */
  readonly prepare?: (namespace: string, cluster: Cluster) => Promise<string | undefined>;
  /** The checkout of the version whose agent is in the registry; unless said, this one. */
  readonly agentOf?: string;
}

/** Settings of a {@link KubernetesDaemon}. */
export interface KubernetesDaemonOptions extends KubernetesAccountOptions {
  readonly daemon?: DaemonOptions;
}

/** A namespace of a cluster, and what a backend that uses it is started with. */
export class KubernetesAccount implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly env: Readonly<Record<string, string>> = {};
  /** Its configuration's file. */
  readonly config: string;
  /** The key of its authority: without it, it is another instance. */
  readonly agentCa: string;
  readonly #directory: string;

  private constructor(cluster: Cluster, directory: string, namespace: string) {
    this.cluster = cluster;
    this.#directory = directory;
    this.namespace = namespace;
    this.config = join(directory, "config.yaml");
    this.agentCa = join(directory, "agent-ca.pem");
  }

  /** Arguments of `sockerless backend kubernetes`. */
  get args(): readonly string[] {
    return ["--config", this.config];
  }

  /** Makes one; the agent's image is in the cluster's registry then. */
  static async open(cluster: Cluster, options: KubernetesAccountOptions = {}): Promise<KubernetesAccount> {
    const directory = await mkdtemp(join(tmpdir(), "skl-kubernetes-"));
    const namespace = `docker-${Math.random().toString(36).slice(2, 8)}`;
    const account = new KubernetesAccount(cluster, directory, namespace);
    await using resources = new AsyncDisposableStack();
    resources.use(account);
    await cluster.kubectl("create", "namespace", namespace);
    const kubeconfig = (await options.prepare?.(namespace, cluster)) ?? cluster.kubeconfig;
    const settings = {
      kubeconfig,
      namespace,
      registry: `${cluster.registry.host}/sockerless`,
      agent_ca: account.agentCa,
      linger: "20m", // Files of what has ended are there as long as a test takes.
      ...options.kubernetes,
    };
    await writeFile(account.config, JSON.stringify({ kubernetes: settings })); // JSON is YAML.
    const { agentOf = checkout } = options;
    const pushed = await runCommand(join(agentOf, "bin/sockerless"), [
      ...["kubernetes", "push-agent", "--config", account.config],
      ...["--agent", join(agentOf, "build/sockerless-agent")],
    ]);
    if (pushed.code !== 0) {
      throw new Error(pushed.errorText);
    }
    resources.move();
    return account;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }
}

let shared: { readonly cluster: Promise<Cluster>; users: number } | undefined;

/** The cluster that all tests of this process have, until the last of these resources is gone: another would be in its way. */
export async function sharedCluster(resources: AsyncDisposableStack): Promise<Cluster> {
  shared ??= { cluster: Cluster.start(), users: 0 };
  const own = shared;
  own.users++;
  resources.defer(async () => {
    if (--own.users === 0) {
      shared = undefined;
      await (await own.cluster)[Symbol.asyncDispose]();
    }
  });
  return await own.cluster;
}

/** A daemon in a namespace of its own of the cluster. */
export class KubernetesDaemon implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly daemon: Daemon;
  readonly namespace: string;
  /** As {@link KubernetesAccount.config}. */
  readonly config: string;
  /** As {@link KubernetesAccount.agentCa}. */
  readonly agentCa: string;
  readonly #resources: AsyncDisposableStack;

  private constructor(account: KubernetesAccount, daemon: Daemon, resources: AsyncDisposableStack) {
    this.cluster = account.cluster;
    this.daemon = daemon;
    this.namespace = account.namespace;
    this.config = account.config;
    this.agentCa = account.agentCa;
    this.#resources = resources;
  }

  /** Starts a daemon that has busybox. */
  static async start(cluster: Cluster, options: KubernetesDaemonOptions = {}): Promise<KubernetesDaemon> {
    await using resources = new AsyncDisposableStack();
    const account = resources.use(await KubernetesAccount.open(cluster, options));
    const daemon = resources.use(
      await Daemon.start({
        ...options.daemon,
        args: ["--backend", "kubernetes", ...account.args, ...(options.daemon?.args ?? [])],
      }),
    );
    await daemon.ok("pull", `${cluster.registry.host}/busybox:latest`);
    await daemon.ok("tag", `${cluster.registry.host}/busybox:latest`, "busybox");
    return new KubernetesDaemon(account, daemon, resources.move());
  }

  /** Runs kubectl in the daemon's namespace. */
  async kubectl(...args: readonly string[]): Promise<string> {
    return await this.cluster.kubectl("--namespace", this.namespace, ...args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

/** Gives the tests of a suite a cluster. */
export function withCluster(): Cluster {
  return duringTests(async (resources) => ({ cluster: await sharedCluster(resources) })).cluster;
}

/** Gives the tests of a suite a cluster and a daemon in a namespace of it. */
export function withKubernetes(options?: KubernetesDaemonOptions): KubernetesSetting {
  const kubernetes = duringTests(async (resources) =>
    KubernetesDaemon.start(await sharedCluster(resources), options),
  );
  const { cluster, daemon } = kubernetes;
  return { cluster, kubernetes, daemon };
}

/** A cluster, and a daemon in a namespace of it. */
export interface KubernetesSetting {
  readonly cluster: Cluster;
  readonly kubernetes: KubernetesDaemon;
  readonly daemon: Daemon;
}
