/** A sockerless whose containers are pods of a real Kubernetes. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { builtPrograms } from "../../src/common/built-programs.ts";
import { runCommand } from "./command.ts";
import { checkout, Daemon, type DaemonOptions } from "./daemon.ts";
import type { Cluster } from "./kubernetes-cluster.ts";

/** Settings of a {@link KubernetesDaemon}. */
export interface KubernetesDaemonOptions {
  /** Settings of the `kubernetes:` section that differ from what fits the cluster. */
  readonly kubernetes?: Readonly<Record<string, unknown>>;
  /** Prepares the namespace that was just made. @returns the kubeconfig to be used; undefined: the administrator's */
  readonly prepare?: (namespace: string) => Promise<string | undefined>;
  readonly daemon?: DaemonOptions;
}

/** A daemon in a namespace of its own of the cluster. */
export class KubernetesDaemon implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly daemon: Daemon;
  readonly namespace: string;
  /** Its configuration's file. */
  readonly config: string;
  /** The key of its authority: without it, it is another instance. */
  readonly agentCa: string;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    cluster: Cluster,
    daemon: Daemon,
    { namespace, config, agentCa }: Pick<KubernetesDaemon, "namespace" | "config" | "agentCa">,
    resources: AsyncDisposableStack,
  ) {
    this.cluster = cluster;
    this.daemon = daemon;
    this.namespace = namespace;
    this.config = config;
    this.agentCa = agentCa;
    this.#resources = resources;
  }

  /** Puts the agent into the cluster's registry, and starts a daemon that has busybox. */
  static async start(cluster: Cluster, options: KubernetesDaemonOptions = {}): Promise<KubernetesDaemon> {
    await using resources = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "skl-kubernetes-"));
    resources.defer(() => rm(directory, { recursive: true, force: true }));
    const namespace = `docker-${Math.random().toString(36).slice(2, 8)}`;
    await cluster.kubectl("create", "namespace", namespace);
    const config = join(directory, "config.yaml");
    const agentCa = join(directory, "agent-ca.pem");
    const kubeconfig = (await options.prepare?.(namespace)) ?? cluster.kubeconfig;
    const settings = {
      kubeconfig,
      namespace,
      registry: `${cluster.registry.host}/sockerless`,
      agent_ca: agentCa,
      linger: "20m", // Files of what has ended are there as long as a test takes.
      ...options.kubernetes,
    };
    await writeFile(config, JSON.stringify({ kubernetes: settings })); // JSON is YAML.
    const pushed = await runCommand(join(checkout, "bin/sockerless"), [
      ...["kubernetes", "push-agent", "--config", config, "--agent", builtPrograms.agent],
    ]);
    if (pushed.code !== 0) {
      throw new Error(pushed.errorText);
    }
    const daemon = resources.use(
      await Daemon.start({
        ...options.daemon,
        args: ["--backend", "kubernetes", "--config", config, ...(options.daemon?.args ?? [])],
      }),
    );
    await daemon.ok("pull", `${cluster.registry.host}/busybox:latest`);
    await daemon.ok("tag", `${cluster.registry.host}/busybox:latest`, "busybox");
    return new KubernetesDaemon(cluster, daemon, { namespace, config, agentCa }, resources.move());
  }

  /** Runs kubectl in the daemon's namespace. */
  async kubectl(...args: readonly string[]): Promise<string> {
    return await this.cluster.kubectl("--namespace", this.namespace, ...args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}
