/** Nodes of the tests' cluster: a kubelet over a containerd of its own; the second in a network namespace of its own. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync, mkdirSync, openSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { commandLineOf, processIds, readOrNothing } from "./processes.ts";
import { untilTrue } from "./until.ts";

/** Address of the API server and of the first node. */
export const node = "10.99.0.1";
/** Address that pods have for the API server; there is no kube-proxy, which would lead it to {@link node}. */
const apiService = "10.96.0.1";

/** Settings of a {@link ClusterNode}. */
export interface ClusterNodeOptions {
  readonly name: string;
  readonly address: string;
  /** Subnet of its pods. */
  readonly pods: string;
  /** A network namespace (`ip netns`); unless said, the tests' own. */
  readonly network?: string;
  /** The cluster's directory; a node's files are in one of its own there. */
  readonly directory: string;
  readonly kubeconfig: string;
  /** Directory of Kubernetes' programs. */
  readonly programs: string;
  /** `127.0.0.1:port`: the registry's host, which the first node alone reaches so; others at {@link node}. */
  readonly registry: string;
}

/** A node of a cluster. */
export class ClusterNode {
  readonly name: string;
  readonly #options: ClusterNodeOptions;
  readonly #directory: string;
  readonly #processes: ChildProcess[] = [];
  #kubelet: ChildProcess | undefined;

  private constructor(options: ClusterNodeOptions) {
    this.name = options.name;
    this.#options = options;
    this.#directory = join(options.directory, options.name);
  }

  /** Starts a node's containerd and kubelet; the cluster says when it is ready. */
  static async start(options: ClusterNodeOptions): Promise<ClusterNode> {
    const started = new ClusterNode(options);
    const { network } = options;
    if (network !== undefined) {
      prepareNetworkOf({ ...options, network });
    }
    await started.#configure();
    started.#run("containerd", "/usr/bin/containerd", ["-c", started.#at("containerd.toml")]);
    await untilTrue(() => existsSync(started.#at("containerd.sock")));
    started.startKubelet();
    return started;
  }

  /** Starts the kubelet; containers go on beside it. */
  startKubelet(): void {
    const { name, address, kubeconfig, programs } = this.#options;
    this.#kubelet = this.#run("kubelet", join(programs, "kubelet"), [
      ...["--config", this.#at("kubelet.yaml"), "--kubeconfig", kubeconfig],
      ...["--root-dir", this.#at("kubelet"), "--hostname-override", name, "--node-ip", address],
    ]);
  }

  /** Kills the kubelet. */
  async killKubelet(): Promise<void> {
    if (this.#kubelet !== undefined) {
      await killed(this.#kubelet);
    }
  }

  /** Takes the node away as a loss of power does: nothing of it goes on, and nothing is told to anybody. */
  async lose(): Promise<void> {
    for (const child of this.#processes) {
      await killed(child);
    }
    const group = join(controlGroup, this.name);
    await untilTrue(() => {
      const left = processesOf(this.#directory, group);
      spawnSync("kill", ["-KILL", ...left.map(String)], { stdio: "ignore" }); // Some may have ended by now.
      return left.length === 0;
    });
    for (const mount of mountsBelow(this.#directory)) {
      spawnSync("umount", ["--lazy", mount]);
    }
    const { network } = this.#options;
    if (network === undefined) {
      spawnSync("ip", ["link", "delete", "cni0"], { stdio: "ignore" });
    } else {
      spawnSync("ip", ["netns", "delete", network]); // With its end of the link.
    }
  }

  #at(name: string): string {
    return join(this.#directory, name);
  }

  #run(name: string, program: string, args: readonly string[]): ChildProcess {
    const { network } = this.#options;
    const log = openSync(this.#at(`${name}.log`), "a");
    // `ip netns exec` would hide the control groups.
    const [command = "", ...rest] =
      network === undefined
        ? [program, ...args]
        : ["nsenter", `--net=/run/netns/${network}`, program, ...args];
    const child = spawn(command, rest, { cwd: this.#directory, stdio: ["ignore", log, log] });
    this.#processes.push(child);
    return child;
  }

  async #configure(): Promise<void> {
    const { name, network, pods, registry } = this.#options;
    const registryHost = network === undefined ? registry : registry.replace(/^.*:/, `${node}:`);
    for (const folder of ["cni", `registries/${registry}`]) {
      await mkdir(this.#at(folder), { recursive: true });
    }
    for (const controller of globSync("/sys/fs/cgroup/{.,*}/cgroup.procs")) {
      mkdirSync(join(controller, "..", controlGroup, name), { recursive: true });
    }
    await writeFile(
      this.#at("cni/10-bridge.conf"),
      JSON.stringify({
        ...{ cniVersion: "0.4.0", name: "bridge", type: "bridge", bridge: "cni0", isGateway: true },
        ipam: {
          ...{ type: "host-local", subnet: pods, routes: [{ dst: "0.0.0.0/0" }] },
          dataDir: this.#at("ipam"),
        },
      }),
    );
    await writeFile(this.#at(`registries/${registry}/hosts.toml`), `[host."http://${registryHost}"]\n`);
    const cri = `plugins."io.containerd.grpc.v1.cri"`;
    await writeFile(
      this.#at("containerd.toml"),
      `version = 2
root = "${this.#at("containerd-root")}"
state = "${this.#at("containerd-state")}"
[grpc]
  address = "${this.#at("containerd.sock")}"
[${cri}]
  restrict_oom_score_adj = true # Without CAP_SYS_RESOURCE no sandbox starts otherwise.
  sandbox_image = "${registry}/pause:latest"
  [${cri}.registry]
    config_path = "${this.#at("registries")}"
  [${cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${this.#at("cni")}"
  [${cri}.containerd]
    snapshotter = "native"
`,
    );
    await writeFile(
      this.#at("kubelet.yaml"),
      JSON.stringify({
        ...{ apiVersion: "kubelet.config.k8s.io/v1beta1", kind: "KubeletConfiguration" },
        authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
        authorization: { mode: "AlwaysAllow" },
        containerRuntimeEndpoint: `unix://${this.#at("containerd.sock")}`,
        ...{ cgroupDriver: "cgroupfs", cgroupRoot: `/${controlGroup}/${name}` },
        ...{ failSwapOn: false, evictionHard: {}, imageGCHighThresholdPercent: 100, maxPods: 250 },
        ...{ enforceNodeAllocatable: [] },
      }),
    );
  }
}

const controlGroup = process.env["SOCKERLESS_TEST_CONTROL_GROUP"] ?? "";

/** Gives the tests' namespace an interface with a default route, which the API server and the kubelet want to have. */
export function prepareNetwork(): void {
  ip("link set lo up");
  ip("link add node0 type veth peer name node0peer"); // A cluster before this one may have made it.
  ip("link set node0peer up");
  ip(`address add ${node}/24 dev node0`);
  ip("link set node0 up");
  ip("route add default via 10.99.0.254 dev node0");
  leadToApiServer([]);
}

/** Makes the namespace of another node: its pods and the first node's reach one another. */
function prepareNetworkOf({
  network,
  address,
  pods,
}: ClusterNodeOptions & { readonly network: string }): void {
  const within = ["nsenter", `--net=/run/netns/${network}`];
  ip(`netns add ${network}`);
  ip(`link add ${network} type veth peer name eth0 netns ${network}`);
  ip(`link set ${network} up`);
  ip(`route add ${address} dev ${network} src ${node}`);
  ip(`route add ${pods} via ${address} dev ${network} onlink`);
  for (const command of [
    ...["link set lo up", `address add ${address}/32 dev eth0`, "link set eth0 up"],
    ...[`route add ${node} dev eth0`, `route add default via ${node} dev eth0`],
  ]) {
    ip(command, within);
  }
  leadToApiServer(within);
}

/** Leads connections of pods to the API server's Service, as kube-proxy would. */
function leadToApiServer(within: readonly string[]): void {
  const input = `table ip sockerless-tests {}
flush table ip sockerless-tests
table ip sockerless-tests {
  chain prerouting {
    type nat hook prerouting priority dstnat
    ip daddr ${apiService} tcp dport 443 dnat to ${node}:26443
  }
}
`;
  const [command = "", ...args] = [...within, "nft", "--file", "-"];
  spawnSync(command, args, { input, stdio: ["pipe", "inherit", "inherit"] });
}

function ip(args: string, within: readonly string[] = []): void {
  const [command = "", ...rest] = [...within, "ip", ...args.split(" ")];
  spawnSync(command, rest, { stdio: "ignore" });
}

/** Kills a process, and waits for its end. */
export async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }
}

/** Processes of a node's containers, which are in its control group, and their shims, which know its directory. */
function processesOf(directory: string, group: string): number[] {
  return processIds()
    .filter((pid) => pid !== process.pid)
    .filter((pid) => {
      const commandLine = commandLineOf(pid);
      const isShim = commandLine.includes("containerd-shim") && commandLine.includes(`${directory}/`);
      return isShim || (commandLine !== "" && readOrNothing(`/proc/${pid}/cgroup`).includes(`/${group}/`));
    });
}

function mountsBelow(directory: string): string[] {
  return readOrNothing("/proc/self/mounts")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((path) => path.startsWith(`${directory}/`))
    .reverse();
}
