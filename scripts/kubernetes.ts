/**
 * The tests of the Kubernetes backend on a real Kubernetes, in namespaces of their own: of processes, mounts and the network.
 * What it is made of is built from Go modules into `~/.cache/sockerless/kubernetes` the first time, which takes ten minutes.
 * Arguments are those of the integration tests; without a file all of test/kubernetes run.
 */
import { spawnSync } from "node:child_process";
import { existsSync, globSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

import { root } from "./program.ts";

const version = "1.34.4";
const programs = join(homedir(), ".cache/sockerless/kubernetes", version);
if (!existsSync(programs)) {
  build();
}

const given = process.argv.slice(2);
const files = given.some((each) => !each.startsWith("-")) ? [] : ["test/kubernetes"];
const controlGroup = `skl-kubernetes-${process.pid}`;
const controllers = existsSync("/sys/fs/cgroup/cgroup.controllers")
  ? ["/sys/fs/cgroup"]
  : globSync("/sys/fs/cgroup/*/cgroup.procs").map((file) => join(file, ".."));
for (const controller of controllers) {
  mkdirSync(join(controller, controlGroup));
}
const namespaces = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"];
const { status } = spawnSync(
  "unshare",
  [
    ...[...namespaces, "--propagation", "private", process.execPath, "--import", "tsx"],
    ...["scripts/integration.ts", "--test-concurrency=1", ...given, ...files],
  ],
  {
    cwd: root,
    stdio: "inherit",
    env: {
      ...process.env,
      SOCKERLESS_TEST_KUBERNETES: programs,
      SOCKERLESS_TEST_CONTROL_GROUP: controlGroup,
    },
  },
);
for (const controller of controllers) {
  removeGroups(join(controller, controlGroup));
}
process.exitCode = status ?? 1;

/** Removes a control group with those below it: `rmdir` alone does that. */
function removeGroups(group: string): void {
  spawnSync("find", [group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], { stdio: "inherit" });
}

/** Builds Kubernetes and etcd beside whatever else the machine does. @throws where that fails */
function build(): void {
  console.log(`building Kubernetes ${version}, once: some ten minutes`);
  mkdirSync(join(programs, ".."), { recursive: true });
  const directory = mkdtempSync(join(programs, "../build-"));
  try {
    const script = join(root, "scripts/build-kubernetes.sh");
    const { status: built } = spawnSync("nice", ["-n", "19", "bash", script, directory, version], {
      stdio: "inherit",
    });
    if (built !== 0) {
      throw new Error(`Kubernetes ${version} was not built`);
    }
    renameSync(join(directory, "bin"), programs);
  } finally {
    spawnSync("chmod", ["-R", "u+w", directory]); // Go's modules are read-only.
    rmSync(directory, { recursive: true, force: true });
  }
}
