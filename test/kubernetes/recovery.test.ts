/** A backend on Kubernetes that has lost its state, or is lost itself. */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { type CommandResult, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { Cluster, withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon } from "../support/kubernetes-daemon.ts";
import { until } from "../support/until.ts";

suite("recovery on Kubernetes", { skip: withoutCluster }, () => {
  let cluster: Cluster;

  before(async () => {
    cluster = await Cluster.start();
  });

  after(async () => {
    await cluster?.[Symbol.asyncDispose]();
  });

  const makeThings = async ({ daemon }: KubernetesDaemon): Promise<void> => {
    await daemon.ok("network", "create", "--label", "team=web", "together");
    await daemon.ok("volume", "create", "--driver", "block", "--opt", "size=1g", "kept");
    const options = ["--network", "together", "--volume", "kept:/data", "--label", "team=web"];
    const command = ["busybox", "sh", "-c", "echo said; echo written >/data/file; exec sleep 1d"];
    await daemon.ok("run", "--detach", "--name", "lives", ...options, ...command);
    await until(async () => (await daemon.docker("exec", "lives", "cat", "/data/file")).text || undefined);
  };

  test("containers, volumes and networks are rebuilt from the cluster", async () => {
    await using own = await KubernetesDaemon.start(cluster);
    const { daemon } = own;
    await makeThings(own);
    const before = await daemon.ok(
      "inspect",
      "--format",
      "{{.Id}} {{.State.StartedAt}} {{.Config.Labels}}",
      "lives",
    );
    await daemon.shutDown();
    await rm(daemon.stateDir, { recursive: true });
    await daemon.launch();
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

  test("what an instance has left that is lost for good is shown and removed by gc", async () => {
    await using own = await KubernetesDaemon.start(cluster, { kubernetes: { linger: "1s" } });
    const { daemon } = own;
    const collect = (...args: string[]): Promise<CommandResult> =>
      runCommand(process.execPath, [
        ...[join(checkout, "dist/src/cli/main.js"), "gc", "--backend=kubernetes", ...args],
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
