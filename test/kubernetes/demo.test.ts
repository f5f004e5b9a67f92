/** The demonstration, and the tour of docs/backends/kubernetes.md, line by line. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { fileURLToPath } from "node:url";

import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { Cluster, withoutCluster } from "../support/kubernetes-cluster.ts";
import { until } from "../support/until.ts";

const demo = fileURLToPath(new URL("demo.js", import.meta.url));

suite("a newcomer to Kubernetes", { skip: withoutCluster }, () => {
  test("is shown containers as pods by the demonstration, which leaves nothing", async () => {
    await using resources = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "skl-demo-test-"));
    resources.defer(() => rm(directory, { recursive: true, force: true }));
    const socket = join(directory, "docker.sock");
    const child = spawn(process.execPath, [demo, "--host", `unix://${socket}`], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, TMPDIR: directory },
    });
    resources.defer(() => void child.kill("SIGKILL"));
    let told = "";
    for (const output of [child.stdout, child.stderr]) {
      output.on("data", (chunk) => {
        told += String(chunk);
      });
    }
    const image = await until(() => {
      assert.equal(child.exitCode, null, told);
      return told.includes("DOCKER_HOST=") ? /an image to begin with: (\S+)/.exec(told)?.[1] : undefined;
    });
    const env = { ...process.env, DOCKER_HOST: `unix://${socket}` };
    const ran = await runCommand("docker", ["run", "--rm", image, "echo", "from a pod"], { env });
    assert.equal(ran.text, "from a pod", ran.errorText);
    child.kill("SIGTERM");
    await once(child, "close"); // A process that lived on would hold its output open.
    assert.equal(child.exitCode, 0, told);
    const left = await runCommand("find", [directory, "-mindepth", "1", "-maxdepth", "1", "-name", "skl-*"]);
    assert.equal(left.text, "");
  });

  test("comes from a kubeconfig to docker run in the six lines of the tour", async () => {
    await using cluster = await Cluster.start();
    const directory = await mkdtemp(join(tmpdir(), "skl-tour-"));
    const text = await readFile(join(checkout, "docs/backends/kubernetes.md"), "utf8");
    const tour = /```sh\n(.*?)```/s.exec(text)?.[1]?.trimEnd() ?? "";
    assert.equal(tour.split("\n").length, 6, tour);
    const socket = join(directory, "docker.sock");
    const script = tour
      .replace("~/.kube/config", cluster.kubeconfig)
      .replace("registry.example.com", cluster.registry.host)
      .replace("/var/run/sockerless.sock", socket)
      .replace(" busybox ", ` ${cluster.registry.host}/busybox:latest `);
    const env = {
      ...process.env,
      PATH: `${join(checkout, "bin")}:${process.env["PATH"]}`,
      SOCKERLESS_HOSTS: `unix://${socket}`,
      SOCKERLESS_STATE_DIR: join(directory, "state"),
      SOCKERLESS_RUN_DIR: join(directory, "run"),
      SOCKERLESS_KUBERNETES_AGENT_CA: join(directory, "agent-ca.pem"),
    };
    try {
      const ran = await runCommand("bash", ["-e", "-c", script], { env });
      assert.match(ran.text, /^hello$/m, ran.errorText);
    } finally {
      await runCommand(join(checkout, "bin/sockerless"), ["stop", "--state-dir", join(directory, "state")], {
        env,
      });
      await rm(directory, { recursive: true, force: true });
    }
  });
});
