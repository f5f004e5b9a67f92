/**
 * A real Kubernetes in the namespaces that scripts/kubernetes.ts has made for the tests: etcd, API server, controller
 * manager, scheduler and a kubelet or two, over the machine's containerd, runc and CNI plugins.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { openSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { openWay } from "../image/loopback-ways.ts";
import { runCommand, type CommandResult } from "./command.ts";
import { busyboxImage } from "./images.ts";
import { ClusterNode, type ClusterNodeOptions, killed, node, prepareNetwork } from "./kubernetes-node.ts";
import { readOrNothing } from "./processes.ts";
import { TestRegistry } from "./registry.ts";
import { until } from "./until.ts";

/** Why no test can have a cluster here; false: it can. */
export const withoutCluster: string | false =
  process.env["SOCKERLESS_TEST_KUBERNETES"] === undefined
    ? "on a real Kubernetes: npm run soak -- kubernetes"
    : false;

const apiServer = `https://${node}:26443`;
const etcd = "http://127.0.0.1:22379";
const token = "token-of-the-tests";

/** A cluster of one node or two, which pull from a registry that anybody may use: it has `busybox:latest`. */
export class Cluster implements AsyncDisposable {
  readonly registry: TestRegistry;
  readonly #directory: string;
  readonly #programs = process.env["SOCKERLESS_TEST_KUBERNETES"] ?? "";
  readonly #processes: ChildProcess[] = [];
  readonly #nodes: ClusterNode[] = [];

  private constructor(directory: string, registry: TestRegistry) {
    this.#directory = directory;
    this.registry = registry;
  }

  /** Starts one; it is ready once its node is. */
  static async start(): Promise<Cluster> {
    await using resources = new AsyncDisposableStack();
    prepareNetwork();
    const directory = await mkdtemp(join(tmpdir(), "skl-kubernetes-"));
    resources.defer(() => rm(directory, { recursive: true, force: true }));
    await mountOwnDirectories();
    resources.defer(unmountOwnDirectories);
    const registry = resources.use(await TestRegistry.start());
    // It is on the node's loopback interface, which neither pods nor other nodes reach.
    const [host = "", port = ""] = registry.host.split(":");
    resources.use(await openWay(node, Number(port), { host, port: Number(port) }));
    await registry.push("busybox", "latest", await busyboxImage());
    await registry.push(
      "pause",
      "latest",
      await busyboxImage({ Entrypoint: ["sleep"], Cmd: ["2147483647"] }),
    );
    const cluster = new Cluster(directory, registry);
    resources.defer(() => cluster.#end());
    await cluster.#begin();
    cluster.#owned = resources.move();
    return cluster;
  }

  #owned = new AsyncDisposableStack();

  /** The kubeconfig of its administrator. */
  get kubeconfig(): string {
    return join(this.#directory, "admin.conf");
  }

  /** Runs kubectl as its administrator. @throws where it fails */
  async kubectl(...args: readonly string[]): Promise<string> {
    const result = await this.#kubectl(args);
    if (result.code !== 0) {
      throw new Error(`kubectl ${args.join(" ")}: ${result.text}`);
    }
    return result.text;
  }

  /** Writes the kubeconfig of a service account. @returns its path */
  async kubeconfigOf(namespace: string, serviceAccount: string): Promise<string> {
    const file = join(this.#directory, `${namespace}.conf`);
    const given = JSON.parse(await readFile(this.kubeconfig, "utf8"));
    const own = await this.kubectl("--namespace", namespace, "create", "token", serviceAccount);
    await writeFile(file, JSON.stringify({ ...given, users: [{ name: "admin", user: { token: own } }] }));
    return file;
  }

  /** Makes objects, or changes them. */
  async apply(...objects: readonly object[]): Promise<void> {
    const items = join(this.#directory, "applied.json");
    await writeFile(items, JSON.stringify({ apiVersion: "v1", kind: "List", items: objects }));
    await this.kubectl("apply", "--filename", items);
  }

  async #kubectl(args: readonly string[]): Promise<CommandResult> {
    return await runCommand(join(this.#programs, "kubectl"), ["--kubeconfig", this.kubeconfig, ...args]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }

  async #begin(): Promise<void> {
    await this.#configure();
    this.#run("etcd", [
      ...["--data-dir", "etcd", "--listen-client-urls", etcd, "--advertise-client-urls", etcd],
      ...["--listen-peer-urls", "http://127.0.0.1:22380"],
    ]);
    await this.startApiServer();
    const admin = ["--kubeconfig", "admin.conf"];
    const leads = "--leader-elect=false";
    this.#run("kube-controller-manager", [
      ...admin,
      ...["--service-account-private-key-file", "pki/sa.key", leads, "--enable-hostpath-provisioner"],
      ...["--root-ca-file", "pki/apiserver.crt"],
    ]);
    this.#run("kube-scheduler", [...admin, leads]);
    await this.#startNode({ name: "node1", address: node, pods: "10.98.0.0/24" });
    await this.apply(
      storageClass("standard", "Immediate", { "storageclass.kubernetes.io/is-default-class": "true" }),
      storageClass("at-first-use", "WaitForFirstConsumer"),
    );
  }

  /** Its first node. */
  get node(): ClusterNode {
    const [first] = this.#nodes;
    assert.ok(first !== undefined);
    return first;
  }

  /** Adds a second node. */
  async addNode(): Promise<ClusterNode> {
    return await this.#startNode({
      ...{ name: "node2", network: "node2", address: "10.99.0.2", pods: "10.98.1.0/24" },
    });
  }

  async #startNode(
    own: Pick<ClusterNodeOptions, "name" | "network" | "address" | "pods">,
  ): Promise<ClusterNode> {
    const started = await ClusterNode.start({
      ...own,
      directory: this.#directory,
      kubeconfig: this.kubeconfig,
      programs: this.#programs,
      registry: this.registry.host,
    });
    this.#nodes.push(started);
    await until(async () => {
      const { text } = await this.#kubectl(["get", "nodes,serviceaccounts"]);
      const isReady = new RegExp(`/${own.name} +Ready`).test(text);
      return (isReady && /serviceaccount\/default/.test(text)) || undefined;
    });
    return started;
  }

  #apiServer: ChildProcess | undefined;

  /** Starts the API server, and waits until it answers. */
  async startApiServer(): Promise<void> {
    this.#apiServer = this.#run("kube-apiserver", [
      ...["--etcd-servers", etcd, "--secure-port", "26443", "--bind-address", node, "--cert-dir", "pki"],
      ...["--advertise-address", node, "--service-account-issuer", "https://kubernetes.default.svc"],
      ...["--service-account-key-file", "pki/sa.key", "--service-account-signing-key-file", "pki/sa.key"],
      ...["--token-auth-file", "pki/tokens.csv", "--authorization-mode", "Node,RBAC", "--allow-privileged"],
      ...["--service-cluster-ip-range", "10.96.0.0/16", "--kubelet-preferred-address-types", "InternalIP"],
      ...["--enable-admission-plugins", "NodeRestriction"],
      ...["--audit-log-path", "audit.log", "--audit-policy-file", "audit.yaml"],
    ]);
    await until(async () => (await this.#kubectl(["get", "--raw", "/readyz"])).code === 0 || undefined);
  }

  /** Kills the API server. */
  async killApiServer(): Promise<void> {
    if (this.#apiServer !== undefined) {
      await killed(this.#apiServer);
    }
  }

  #run(program: string, args: readonly string[]): ChildProcess {
    const log = openSync(join(this.#directory, `${program}.log`), "a");
    const child = spawn(join(this.#programs, program), args, {
      cwd: this.#directory,
      stdio: ["ignore", log, log],
    });
    this.#processes.push(child);
    return child;
  }

  async #configure(): Promise<void> {
    const at = (name: string): string => join(this.#directory, name);
    await mkdir(at("pki"));
    spawnSync("openssl", ["genrsa", "-out", at("pki/sa.key"), "2048"], { stdio: "ignore" });
    await writeFile(at("pki/tokens.csv"), `${token},admin,admin,"system:masters"\n`);
    await writeFile(
      this.kubeconfig,
      // JSON is YAML.
      JSON.stringify({
        ...{ apiVersion: "v1", kind: "Config", "current-context": "tests" },
        clusters: [{ name: "tests", cluster: { server: apiServer, "insecure-skip-tls-verify": true } }],
        users: [{ name: "admin", user: { token } }],
        contexts: [{ name: "tests", context: { cluster: "tests", user: "admin" } }],
      }),
    );
    await writeFile(at("audit.yaml"), JSON.stringify(auditPolicy));
  }

  /** Calls about pods, claims and policies of a namespace, but those of Kubernetes itself and of kubectl. */
  callsIn(namespace: string): ClusterCalls {
    return new ClusterCalls(join(this.#directory, "audit.log"), namespace);
  }

  /** Its directory: logs, etcd's data, images and files of containers. */
  get directory(): string {
    return this.#directory;
  }

  /** Ends all processes, those of containers included: there are no others in this namespace but the tests'. */
  async #end(): Promise<void> {
    for (const each of this.#nodes) {
      await each.lose();
    }
    for (const child of this.#processes.reverse()) {
      await killed(child);
    }
  }
}

/** All that is asked about what this backend makes, with what is sent. */
const auditPolicy = {
  ...{ apiVersion: "audit.k8s.io/v1", kind: "Policy", omitStages: ["RequestReceived", "ResponseStarted"] },
  rules: [
    {
      level: "Request",
      resources: [
        { group: "", resources: ["pods", "pods/portforward", "persistentvolumeclaims"] },
        { group: "networking.k8s.io", resources: ["networkpolicies"] },
      ],
    },
  ],
};

interface AuditEvent {
  readonly verb: string;
  readonly requestURI: string;
  readonly userAgent?: string;
  readonly responseStatus?: { readonly code?: number };
  readonly objectRef?: { readonly resource: string; readonly namespace?: string };
}

/** Calls of the API that were granted, as its audit log has them: `pods.create`. */
export class ClusterCalls {
  readonly #file: string;
  readonly #namespace: string;
  #seen = 0;

  constructor(file: string, namespace: string) {
    this.#file = file;
    this.#namespace = namespace;
  }

  all(): readonly AuditEvent[] {
    return this.#lines()
      .slice(this.#seen)
      .map((line) => JSON.parse(line) as AuditEvent)
      .filter(
        ({ objectRef, userAgent = "", requestURI, responseStatus }) =>
          objectRef?.namespace === this.#namespace &&
          !/^(kube|kubectl)/.test(userAgent) &&
          !/[?&]dryRun=/.test(requestURI) &&
          (responseStatus?.code ?? 0) < 400,
      );
  }

  count(name: string): number {
    return this.counts()[name] ?? 0;
  }

  /** Counts by name. */
  counts(): Readonly<Record<string, number>> {
    const names = Map.groupBy(this.all(), ({ verb, objectRef }) => `${objectRef?.resource}.${verb}`);
    return Object.fromEntries([...names].map(([name, calls]) => [name, calls.length]));
  }

  /** Begins anew. */
  clear(): void {
    this.#seen = this.#lines().length;
  }

  #lines(): string[] {
    return readOrNothing(this.#file).split("\n").slice(0, -1); // The last is not whole yet.
  }
}

/** The controller manager's directory of volumes, which is its own choice. */
const volumes = "/tmp/hostpath_pv";
/** Directories of the machine that programs of the cluster write to; in this mount namespace they are memory. */
const ownDirectories = [volumes, "/run/netns"];

async function mountOwnDirectories(): Promise<void> {
  for (const directory of ownDirectories) {
    await mkdir(directory, { recursive: true });
    spawnSync("mount", ["-t", "tmpfs", "sockerless-test", directory], { stdio: "inherit" });
  }
}

async function unmountOwnDirectories(): Promise<void> {
  for (const directory of ownDirectories) {
    spawnSync("umount", ["--lazy", directory], { stdio: "inherit" });
  }
  await rm(volumes, { recursive: true, force: true });
}

/** A storage class of directories of this machine. */
function storageClass(name: string, volumeBindingMode: string, annotations: object = {}): object {
  return {
    ...{ apiVersion: "storage.k8s.io/v1", kind: "StorageClass" },
    metadata: { name, annotations },
    provisioner: "kubernetes.io/host-path",
    volumeBindingMode,
  };
}
