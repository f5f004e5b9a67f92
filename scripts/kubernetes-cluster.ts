/**
 * A real Kubernetes for tests and the demonstration, in namespaces of its own: of processes, mounts and the network. What it is
 * made of is built from Go modules into `~/.cache/sockerless/kubernetes` the first time.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";

import { root } from "./program.ts";

const version = "1.34.4";
const programs = join(homedir(), ".cache/sockerless/kubernetes", version);

/**
 * Makes sure that a cluster can be started: builds Kubernetes where it is not there yet.
 *
 * @returns the reason that no cluster can be started here; undefined: one can
 */
export function prepareKubernetes(): string | undefined {
  if (!existsSync("/usr/lib/cni/bridge")) {
    return "there are no CNI plugins (Debian's containernetworking-plugins)";
  }
  return existsSync(programs) || build() ? undefined : `Kubernetes ${version} cannot be built`;
}

/**
 * Runs Node in the namespaces, where test/support/kubernetes-cluster.ts can start a cluster.
 *
 * @returns the exit code
 */
export async function runBesideKubernetes(args: readonly string[]): Promise<number> {
  const missing = prepareKubernetes();
  if (missing !== undefined) {
    console.error(missing);
    return 1;
  }
  const controlGroup = `skl-kubernetes-${process.pid}`;
  const controllers = existsSync("/sys/fs/cgroup/cgroup.controllers")
    ? ["/sys/fs/cgroup"]
    : globSync("/sys/fs/cgroup/*/cgroup.procs").map((file) => join(file, ".."));
  for (const controller of controllers) {
    mkdirSync(join(controller, controlGroup));
  }
  // A run of tests in here and one outside see no process of each other, and would each take the other for abandoned.
  const directory = mkdtempSync(join(tmpdir(), "skl-"));
  // Tests fetch in this network: the cluster's leads nowhere.
  const network = join(directory, "network");
  const keepNetwork = `: >${network}; mount --bind /proc/self/ns/net ${network}; exec unshare "$@"`;
  const namespaces = ["--net", "--pid", "--fork", "--mount-proc", "--kill-child"];
  const outer = ["--mount", "--propagation", "private", "sh", "-ec", keepNetwork, "sh"];
  const child = spawn("unshare", [...outer, ...namespaces, process.execPath, ...args], {
    cwd: root,
    stdio: "inherit",
    env: {
      ...process.env,
      TMPDIR: directory,
      SOCKERLESS_TEST_OUTER_NETWORK: network,
      SOCKERLESS_TEST_KUBERNETES: programs,
      SOCKERLESS_TEST_CONTROL_GROUP: controlGroup,
    },
  });
  // A terminal's Ctrl-C reaches all by itself; a signal to this process alone is passed on: `unshare` ignores it.
  process.on("SIGINT", () => {}).on("SIGTERM", () => passOn(child.pid, "SIGTERM"));
  const [code] = (await once(child, "exit")) as [number | null];
  rmSync(directory, { recursive: true, force: true });
  for (const controller of controllers) {
    removeGroups(join(controller, controlGroup));
  }
  return code ?? 1;
}

function passOn(parent: number | undefined, signal: NodeJS.Signals): void {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, "utf8").trim();
  for (const pid of children === "" ? [] : children.split(" ")) {
    process.kill(Number(pid), signal);
  }
}

/** Removes a control group with those below it: `rmdir` alone does that. */
function removeGroups(group: string): void {
  spawnSync("find", [group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], { stdio: "inherit" });
}

/** Builds Kubernetes and etcd beside whatever else the machine does. @returns false where that fails, as without a network */
function build(): boolean {
  console.log(`building Kubernetes ${version}, once: ten minutes on two cores that do nothing else`);
  mkdirSync(join(programs, ".."), { recursive: true });
  const directory = mkdtempSync(join(programs, "../build-"));
  try {
    const script = join(root, "scripts/build-kubernetes.sh");
    const { status: built } = spawnSync("nice", ["-n", "19", "bash", script, directory, version], {
      stdio: "inherit",
    });
    if (built === 0) {
      renameSync(join(directory, "bin"), programs);
    }
    return built === 0;
  } finally {
    spawnSync("chmod", ["-R", "u+w", directory]); // Go's modules are read-only.
    rmSync(directory, { recursive: true, force: true });
  }
}
