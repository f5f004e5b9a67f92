/** A backend on Kubernetes that has lost its state, or is lost itself. */
import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";

import { type CommandResult, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon, withCluster } from "../support/kubernetes-daemon.ts";
import { until, untilTrue } from "../support/until.ts";

/** Selects a container's pods. */
async function selectorOf({ daemon }: KubernetesDaemon, container: string): Promise<string> {
  const id = await daemon.ok("inspect", "--format", "{{.Id}}", container);
  return `sockerless/container=${id.slice(0, 12)}`;
}

suite("recovery on Kubernetes", { skip: withoutCluster }, () => {
  const cluster = withCluster();

  const makeThings = async ({ daemon }: KubernetesDaemon): Promise<void> => {
    await daemon.ok("network", "create", "--label", "team=web", "together");
    await daemon.ok("volume", "create", "--driver", "block", "--opt", "size=1g", "kept");
    const options = ["--network", "together", "--volume", "kept:/data", "--label", "team=web"];
    const command = ["busybox", "sh", "-c", "echo said; echo written >/data/file; exec sleep 1d"];
    await daemon.ok("run", "--detach", "--name", "lives", ...options, ...command);
    await until(async () => (await daemon.docker("exec", "lives", "cat", "/data/file")).text || undefined);
  };
  /** A daemon of the same instance that knows nothing any more. */
  const loseState = async ({ daemon }: KubernetesDaemon, meanwhile: () => Promise<void>): Promise<void> => {
    await daemon.shutDown();
    await rm(daemon.stateDir, { recursive: true });
    await meanwhile();
    await daemon.launch();
  };

  test("containers, volumes and networks are rebuilt from the cluster", async () => {
    await using own = await KubernetesDaemon.start(cluster);
    const { daemon } = own;
    await makeThings(own);
    const before = await daemon.ok(
      ...["inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.Config.Labels}}", "lives"],
    );
    await loseState(own, async () => {});
    await until(async () => (await daemon.docker("inspect", "lives")).code === 0 || undefined);
    assert.equal(
      await daemon.ok("inspect", "--format", "{{.Id}} {{.State.StartedAt}} {{.Config.Labels}}", "lives"),
      before,
    );
    assert.equal(await daemon.ok("exec", "lives", "cat", "/data/file"), "written");
    assert.match(await daemon.ok("logs", "lives"), /said/);
    assert.equal(
      await daemon.ok("volume", "inspect", "--format", "{{.Driver}} {{.Options.size}}", "kept"),
      "block 1g",
    );
    assert.equal(await daemon.ok("network", "inspect", "--format", "{{.Labels.team}}", "together"), "web");
    await daemon.ok("rm", "--force", "lives");
    await daemon.ok("volume", "rm", "kept");
    await daemon.ok("network", "rm", "together");
    await until(async () => {
      const left = await own.kubectl("get", "pods,persistentvolumeclaims", "--output", "name");
      return left.trim() === "" || undefined;
    });
  });

  test("containers of a lost state are stopped, started, waited for and removed as if nothing had been", async () => {
    await using own = await KubernetesDaemon.start(cluster);
    const { daemon } = own;
    const untilGo = (code: number): string =>
      `trap 'echo stopped; exit 3' TERM; until [ -e /go ]; do sleep 0.1; done; echo gone; exit ${code}`;
    for (const [name, code] of [
      ["stopped", 1],
      ["ends", 4],
      ["gone", 5],
    ] as const) {
      await daemon.ok("run", "--detach", "--name", name, "busybox", "sh", "-c", untilGo(code));
    }
    assert.equal(
      (await daemon.docker("run", "--name", "before", "busybox", "sh", "-c", "echo once; exit 7")).code,
      7,
    );
    const pod = await own.kubectl(
      "get",
      "pods",
      "--output",
      "name",
      "--selector",
      await selectorOf(own, "gone"),
    );
    await daemon.ok("exec", "--detach", "ends", "sh", "-c", "sleep 3; touch /go");
    await loseState(own, async () => {
      await own.kubectl("delete", pod.trim());
    });
    await until(
      async () => (await daemon.docker("inspect", "stopped", "ends", "before")).code === 0 || undefined,
    );
    assert.equal(await daemon.ok("wait", "ends"), "4");
    assert.equal(await daemon.ok("logs", "ends"), "gone");
    const stateOf = (name: string) =>
      daemon.ok("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name);
    assert.equal(await stateOf("before"), "exited 7");
    assert.equal(await daemon.ok("logs", "before"), "once");
    assert.equal(await stateOf("stopped"), "running 0");
    const waits = daemon.docker("wait", "stopped");
    await daemon.ok("stop", "stopped");
    assert.equal((await waits).text, "3");
    assert.equal(await daemon.ok("logs", "stopped"), "stopped");
    await daemon.ok("start", "stopped");
    assert.equal(await daemon.ok("exec", "stopped", "echo", "again"), "again");
    assert.notEqual((await daemon.docker("inspect", "gone")).code, 0);
    await daemon.ok("rm", "--force", "stopped", "ends", "before");
    await untilTrue(async () => (await own.kubectl("get", "pods", "--output", "name")).trim() === "");
    assert.doesNotMatch(daemon.output, /a task that should have ended/, "agents wait for nobody who is gone");
  });

  test("containers run on while the configuration leads to another namespace or authority, and are there again behind it", async () => {
    await using own = await KubernetesDaemon.start(cluster);
    const { daemon } = own;
    const command = ["busybox", "sh", "-c", "echo written >/file; exec sleep 1d"];
    await daemon.ok("run", "--detach", "--name", "lives", "--restart", "always", ...command);
    const written = async () => (await daemon.docker("exec", "lives", "cat", "/file")).text;
    await until(async () => (await written()) || undefined);
    const stateOf = () =>
      daemon.ok("inspect", "--format", "{{.State.Status}} {{.State.StartedAt}} {{.RestartCount}}", "lives");
    const before = await stateOf();
    const configuration = await readFile(own.config, "utf8");
    for (const [given, other, told] of [
      [own.namespace, "default", "run in another namespace than default at"],
      [own.agentCa, `${own.agentCa}.other`, "know another authority"],
    ] as const) {
      await daemon.shutDown();
      await writeFile(own.config, configuration.replace(JSON.stringify(given), JSON.stringify(other)));
      const since = daemon.output.length;
      const isTold = (words: string) => daemon.output.slice(since).includes(words);
      await daemon.launch();
      await until(() => isTold(told) || undefined);
      await until(() => isTold("cannot ask for the end of a container") || undefined);
      assert.match((await daemon.docker("run", "--rm", "busybox", "true")).errorText, new RegExp(told));
      if (given === own.namespace) {
        assert.match((await daemon.docker("rm", "--force", "lives")).errorText, new RegExp(told));
      }
      assert.equal(await stateOf(), before);
      await daemon.shutDown();
      await writeFile(own.config, configuration);
      await daemon.launch();
      assert.equal(await stateOf(), before);
      assert.equal(await written(), "written");
    }
    assert.equal(await cluster.kubectl("--namespace", "default", "get", "pods", "--output", "name"), "");
  });

  test("a namespace that is deleted and made again under a backend is its own, also for the next one", async () => {
    await using own = await KubernetesDaemon.start(cluster);
    const { daemon, namespace } = own;
    await daemon.ok("run", "--detach", "--name", "ends", "busybox", "sleep", "1d");
    await cluster.kubectl("delete", "namespace", namespace);
    assert.match(await daemon.ok("wait", "ends"), /^[1-9]/);
    await cluster.kubectl("create", "namespace", namespace);
    await until(
      async () =>
        (await daemon.docker("run", "--rm", "busybox", "echo", "anew")).text === "anew" || undefined,
    );
    await daemon.ok("run", "--detach", "--name", "lives", "busybox", "sleep", "1d");
    await daemon.shutDown();
    await daemon.launch();
    assert.equal(await daemon.ok("exec", "lives", "echo", "alive"), "alive");
    assert.equal(await daemon.ok("run", "--rm", "busybox", "echo", "again"), "again");
  });

  test("what an instance has left that is lost for good is shown and removed by gc", async () => {
    await using own = await KubernetesDaemon.start(cluster, { kubernetes: { linger: "1s" } });
    const { daemon } = own;
    const collect = (...args: string[]): Promise<CommandResult> =>
      runCommand(process.execPath, [
        ...[join(checkout, "dist/bundle/cli/main.js"), "gc", "--backend=kubernetes", ...args],
        ...["--config", own.config, "--state-dir", daemon.stateDir, "--run-dir", daemon.runDir],
      ]);
    await makeThings(own);
    await daemon.ok("stop", "lives");
    const running = ["get", "pods", "--field-selector=status.phase=Running", "--output=name"];
    await until(async () => (await own.kubectl(...running)).trim() === "" || undefined);
    await daemon.shutDown();
    await rm(daemon.stateDir, { recursive: true });
    await rm(own.agentCa); // Another instance: what the first has made is not its own.
    await daemon.launch();
    await daemon.shutDown();
    const { text, errorText } = await collect();
    for (const kind of ["persistentvolumeclaim", "networkpolicy"]) {
      assert.match(text, new RegExp(`^left: ${kind} sockerless-`, "m"), errorText);
    }
    const instance = /instance (sockerless\/[0-9a-f]+)/.exec(text)?.[1] ?? "";
    const removed = await collect("--remove", "--instance", instance);
    assert.match(removed.text, /^removed: persistentvolumeclaim \S+ \(volume kept, /m, removed.errorText);
    assert.match(removed.text, /^removed: networkpolicy \S+ \(network together, /m);
    await until(async () => {
      const left = await own.kubectl("get", "pods,persistentvolumeclaims", "--output", "name");
      return left.trim() === "" || undefined;
    });
    await daemon.launch();
  });
});
