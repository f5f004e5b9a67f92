/** The demonstration, and the tour of docs/backends/kubernetes.md, line by line. */
import assert from "node:assert/strict";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { suite, test } from "node:test";
import { fileURLToPath } from "node:url";

import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { Cluster, withoutCluster } from "../support/kubernetes-cluster.ts";
import { until, untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const demo = fileURLToPath(new URL("demo.js", import.meta.url));

/** A demonstration that runs. */
class Shown implements Disposable {
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  #told = "";

  constructor(args: readonly string[], env: Readonly<Record<string, string>>) {
    this.#child = spawn(process.execPath, [demo, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...env },
    });
    for (const output of [this.#child.stdout, this.#child.stderr]) {
      output.on("data", (chunk) => {
        this.#told += String(chunk);
      });
    }
  }

  get told(): string {
    return this.#told;
  }

  /** @throws it has ended */
  hasSaid(words: string): boolean {
    assert.equal(this.#child.exitCode, null, this.#told);
    return this.#told.includes(words);
  }

  /** Ends it as Ctrl-C does. */
  async end(): Promise<void> {
    this.#child.kill("SIGTERM");
    await once(this.#child, "close"); // A process that lived on would hold its output open.
    assert.equal(this.#child.exitCode, 0, this.#told);
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }
}

suite("a newcomer to Kubernetes", { skip: withoutCluster }, () => {
  test("is shown containers as pods by the demonstration, which leaves nothing", async () => {
    await using resources = new AsyncDisposableStack();
    const directory = scratchDirectory();
    const socket = join(directory, "docker.sock");
    const shown = resources.use(new Shown(["--host", `unix://${socket}`], { TMPDIR: directory }));
    await until(() => shown.hasSaid("DOCKER_HOST=") || undefined);
    const image = /an image to begin with: (\S+)/.exec(shown.told)?.[1] ?? assert.fail(shown.told);
    const env = { ...process.env, DOCKER_HOST: `unix://${socket}` };
    const ran = await runCommand("docker", ["run", "--rm", image, "echo", "from a pod"], { env });
    assert.equal(ran.text, "from a pod", ran.errorText);
    await shown.end();
    const left = await runCommand("find", [directory, "-mindepth", "1", "-maxdepth", "1", "-name", "skl-*"]);
    assert.equal(left.text, "");
  });

  test("is shown them on the cluster of a kubeconfig that is given, where nothing is left", async () => {
    await using resources = new AsyncDisposableStack();
    const cluster = resources.use(await Cluster.start());
    const directory = scratchDirectory();
    const args = ["--kubeconfig", cluster.kubeconfig, "--host", `unix://${join(directory, "docker.sock")}`];
    const without = await runCommand(process.execPath, [demo, ...args]);
    assert.equal(without.code, 1);
    assert.match(without.errorText, /^set SOCKERLESS_KUBERNETES_REGISTRY/);
    const registry = { SOCKERLESS_KUBERNETES_REGISTRY: `${cluster.registry.host}/sockerless` };
    const shown = resources.use(new Shown(args, { ...registry, TMPDIR: directory }));
    await until(() => shown.hasSaid("DOCKER_HOST=") || undefined);
    const image = `${cluster.registry.host}/busybox:latest`;
    const env = { ...process.env, DOCKER_HOST: `unix://${join(directory, "docker.sock")}` };
    const run = ["run", "--detach", "--volume", "kept:/data", image, "sleep", "1d"];
    assert.equal((await runCommand("docker", run, { env })).code, 0);
    await shown.end();
    const namespace =
      /of the namespace (sockerless-demo-\S+),/.exec(shown.told)?.[1] ?? assert.fail(shown.told);
    await untilTrue(
      async () => !(await cluster.kubectl("get", "namespaces", "--output", "name")).includes(namespace),
    );
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
