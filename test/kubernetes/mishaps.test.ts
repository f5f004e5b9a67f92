/** Mishaps in a real Kubernetes, and how clients hear of them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { suite, test } from "node:test";

import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { agentWays, KubernetesDaemon, settingsOf, withKubernetes } from "../support/kubernetes-daemon.ts";
import { processOf } from "../support/processes.ts";
import { until } from "../support/until.ts";

suite("mishaps on Kubernetes", { skip: withoutCluster }, () => {
  const { cluster, kubernetes, daemon } = withKubernetes();

  const podOf = async (container: string): Promise<string> => {
    const id = await daemon.ok("inspect", "--format", "{{.Id}}", container);
    const selector = `sockerless/container=${id.slice(0, 12)}`;
    return (await kubernetes.kubectl("get", "pods", "--selector", selector, "--output", "name")).trim();
  };
  const stateOf = (container: string, fields = "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}") =>
    daemon.ok("inspect", "--format", fields, container);

  /** A container that ends with 9 once an exec has read a word, and that exec and its logs under way. */
  const beginStreams = async (name: string) => {
    const script = "until [ -e /go ]; do sleep 0.2; done; echo gone; exit 9";
    await daemon.ok("run", "--detach", "--name", name, "busybox", "sh", "-c", script);
    const logs = daemon.docker("logs", "--follow", name);
    const typed = Promise.withResolvers<string>();
    const input = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from(await typed.promise);
    };
    const reading = "echo begun >/begun; read word; echo $word; touch /go; exit 5";
    const exec = daemon.dockerWith(
      { input: input() },
      ...["exec", "--interactive", name, "sh", "-c", reading],
    );
    await until(async () => (await daemon.docker("exec", name, "cat", "/begun")).text || undefined);
    return {
      /** Types the word, and sees all of it end. */
      async finish(): Promise<void> {
        typed.resolve("through\n");
        const { text, code, errorText } = await exec;
        assert.deepEqual([text, code], ["through", 5], errorText);
        assert.equal((await logs).text, "gone");
        assert.equal(await daemon.ok("wait", name), "9");
      },
      type: () => typed.resolve("through\n"),
    };
  };

  test("an API server that restarts ends neither exec, nor logs, nor a container's record", async () => {
    const streams = await beginStreams("lasts");
    await cluster.killApiServer();
    streams.type();
    assert.match(await stateOf("lasts"), /^running/);
    await cluster.startApiServer();
    await streams.finish();
    assert.equal(await daemon.ok("run", "--rm", "busybox", "echo", "works again"), "works again");
  });

  test("an API server that is away for a minute ends neither exec nor logs, and starts wait for it", async () => {
    const streams = await beginStreams("outwaits");
    await cluster.killApiServer();
    const late = daemon.docker("run", "--rm", "busybox", "echo", "started late");
    await delay(60_000);
    assert.match(await stateOf("outwaits"), /^running/);
    await cluster.startApiServer();
    await streams.finish();
    const started = await late;
    assert.equal(started.text, "started late", started.errorText);
  });

  test("a backend that is killed ends neither exec nor logs", async () => {
    const streams = await beginStreams("unharmed");
    process.kill(await processOf(daemon, "backend"), "SIGKILL");
    await streams.finish();
  });

  test("a pod that somebody deletes ends its container, who has done it is told, and its log is whole", async () => {
    const script = "trap 'echo ends; exit 0' TERM; echo runs; while :; do sleep 0.1; done";
    await daemon.ok("run", "--detach", "--name", "deleted", "busybox", "sh", "-c", script);
    await until(async () => (await daemon.ok("logs", "deleted")) === "runs" || undefined);
    await kubernetes.kubectl("delete", await podOf("deleted"), "--wait=false");
    assert.equal(await daemon.ok("wait", "deleted"), "255");
    // The agent tells of the end first, Kubernetes a moment later of its cause.
    await until(
      async () => /^exited 255 .*deleted in Kubernetes/.test(await stateOf("deleted")) || undefined,
    );
    assert.equal(await daemon.ok("logs", "deleted"), "runs\nends");
  });

  test("a backend that was away finds its containers, and how they have ended meanwhile", async () => {
    await daemon.ok("run", "--detach", "--name", "stays", "busybox", "sleep", "1d");
    await daemon.ok(
      ...["run", "--detach", "--name", "ends", "busybox"],
      ...["sh", "-c", "until [ -e /go ]; do sleep 0.1; done; exit 4"],
    );
    await daemon.ok("exec", "--detach", "ends", "sh", "-c", "sleep 1; touch /go");
    await daemon.shutDown();
    await daemon.launch();
    assert.equal(await daemon.ok("wait", "ends"), "4");
    assert.equal(await daemon.ok("exec", "stays", "echo", "here"), "here");
  });

  test("what no node has room for says so when its time is over", async () => {
    await using small = await KubernetesDaemon.start(cluster, { kubernetes: { start_timeout: "8s" } });
    const run = await small.daemon.docker("run", "--memory", "1000g", "busybox", "true");
    assert.match(run.errorText, /Unschedulable: .*Insufficient memory/);
  });

  test("an agent's image that is not there is told with what to do", async () => {
    const agent_image = `${cluster.registry.host}/sockerless:nothing`;
    await using lost = await KubernetesDaemon.start(cluster, { kubernetes: { agent_image } });
    const run = await lost.daemon.docker("run", "busybox", "true");
    assert.match(
      run.errorText,
      /agent's image .*nothing is not there: run `sockerless kubernetes push-agent`/,
    );
  });

  test("a quota of the namespace is waited for", async () => {
    await kubernetes.kubectl("create", "quota", "few", "--hard=pods=0");
    const run = daemon.docker("run", "--rm", "--name", "waits", "busybox", "echo", "at last");
    await until(async () => {
      const { text } = await daemon.docker("ps", "--all", "--quiet", "--filter", "name=waits");
      return text || undefined;
    });
    await kubernetes.kubectl("delete", "quota", "few");
    assert.equal((await run).text, "at last");
  });

  test("a limit of the namespace refuses in its own words", async () => {
    const max = { memory: "64Mi" };
    await cluster.apply({
      ...{ apiVersion: "v1", kind: "LimitRange" },
      metadata: { name: "small", namespace: kubernetes.namespace },
      spec: { limits: [{ type: "Container", max }] },
    });
    const large = await daemon.docker("run", "--name", "large", "--memory", "128m", "busybox", "true");
    assert.match(large.errorText, /maximum memory usage per Container is 64Mi, but limit is 134217728/);
    assert.match(await stateOf("large"), /^created 128 .*maximum memory usage per Container/);
    const command = [join(checkout, "dist/bundle/cli/main.js"), "why", "large"];
    const why = await runCommand(process.execPath, command, { env: daemon.clientEnv });
    assert.match(why.text, /maximum memory usage per Container is 64Mi/);
    await kubernetes.kubectl("delete", "limitrange", "small");
  });

  test("a drained node ends containers in Kubernetes' words, and restart policies bring them back", async () => {
    await daemon.ok("run", "--detach", "--name", "drained", "busybox", "sleep", "1d");
    await daemon.ok("run", "--detach", "--name", "again", "--restart", "always", "busybox", "sleep", "1d");
    const before = await podOf("again");
    await cluster.kubectl("drain", "node1", "--force", "--delete-emptydir-data", "--ignore-daemonsets");
    assert.equal(await daemon.ok("wait", "drained"), "143");
    await until(async () => /EvictionByEvictionAPI/.test(await stateOf("drained")) || undefined);
    await cluster.kubectl("uncordon", "node1");
    await until(async () => {
      const exec = await daemon.docker("exec", "again", "echo", "back");
      return (exec.text === "back" && (await podOf("again")) !== before) || undefined;
    });
    await daemon.ok("rm", "--force", "again");
  });

  for (const way of agentWays) {
    test(`a pod that is evicted ends its container as soon as Kubernetes tells it: agents by ${way}`, async (t) => {
      await using own = await KubernetesDaemon.start(cluster, { kubernetes: settingsOf(way) });
      const fills = "trap '' TERM; dd if=/dev/zero bs=1M count=50 2>/dev/null; sleep 1d";
      const limit = ["--storage-opt", "size=30m"];
      await own.daemon.ok("run", "--detach", "--name", "fills", ...limit, "busybox", "sh", "-c", fills);
      const ended = own.daemon.ok("wait", "fills").then((code) => ({ code, atMs: Date.now() }));
      const pods = ["get", "pods", "--output", "jsonpath={.items[*].status.phase}"] as const;
      await until(async () => (await own.kubectl(...pods)) === "Failed" || undefined);
      const knownMs = Date.now();
      const { code, atMs } = await ended;
      t.diagnostic(`told ${atMs - knownMs} ms after a client of Kubernetes knew`);
      const state = await own.daemon.ok("inspect", "--format", "{{.State.Status}} {{.State.Error}}", "fills");
      assert.equal(code, "137");
      assert.match(state, /^exited .*Evicted: .*ephemeral/);
    });

    test(`a pod that is deleted by force ends its container once it is killed: agents by ${way}`, async (t) => {
      await using own = await KubernetesDaemon.start(cluster, { kubernetes: settingsOf(way) });
      const stays = "trap '' TERM; while :; do sleep 1; done";
      await own.daemon.ok("run", "--detach", "--name", "forced", "busybox", "sh", "-c", stays);
      await own.kubectl("delete", "pods", "--all", "--force");
      const deletedMs = Date.now();
      assert.equal(await own.daemon.ok("wait", "forced"), "255");
      t.diagnostic(`told ${Date.now() - deletedMs} ms after the pod was gone`);
      const state = await own.daemon.ok(
        ...["inspect", "--format", "{{.State.Status}} {{.State.Error}}", "forced"],
      );
      assert.match(state, /^exited .*deleted in Kubernetes/);
    });
  }

  test("a pod that gives way to another of more priority says so", async () => {
    const priority = (name: string, value: number) => ({
      ...{ apiVersion: "scheduling.k8s.io/v1", kind: "PriorityClass", value },
      metadata: { name },
    });
    await cluster.apply(priority("low", 1), priority("high", 1000));
    const node = JSON.parse(await cluster.kubectl("get", "node", "node1", "--output", "json"));
    const cpus = Number(node.status.allocatable.cpu);
    await using low = await KubernetesDaemon.start(cluster, { kubernetes: { priority_class: "low" } });
    const most = String(cpus - 0.4);
    await low.daemon.ok("run", "--detach", "--name", "yields", "--cpus", most, "busybox", "sleep", "1d");
    await cluster.apply({
      ...{ apiVersion: "v1", kind: "Pod" },
      metadata: { name: "first", namespace: kubernetes.namespace },
      spec: {
        priorityClassName: "high",
        terminationGracePeriodSeconds: 0,
        containers: [
          {
            ...{ name: "main", image: `${cluster.registry.host}/pause:latest` },
            resources: { requests: { cpu: most } },
          },
        ],
      },
    });
    assert.equal(await low.daemon.ok("wait", "yields"), "143");
    const error = () => low.daemon.ok("inspect", "--format", "{{.State.Error}}", "yields");
    await until(async () => /PreemptionByScheduler/.test(await error()) || undefined);
    await kubernetes.kubectl("delete", "pod", "first", "--force");
  });

  test("a kubelet that restarts ends neither exec, nor logs, nor a container, whose code is told", async () => {
    const streams = await beginStreams("outlives");
    const script = "until [ -e /go ]; do sleep 0.1; done; exit 6";
    await daemon.ok("run", "--detach", "--name", "meanwhile", "busybox", "sh", "-c", script);
    await daemon.ok("exec", "--detach", "meanwhile", "sh", "-c", "sleep 2; touch /go");
    await cluster.node.killKubelet();
    const late = daemon.docker("run", "--rm", "busybox", "echo", "next");
    assert.match(await stateOf("outlives"), /^running/);
    await delay(10_000); // One container ends meanwhile.
    cluster.node.startKubelet();
    await streams.finish();
    assert.equal(await daemon.ok("wait", "meanwhile"), "6");
    assert.equal((await late).text, "next");
  });

  test("a namespace's rules for pods hold: baseline lets them in, restricted refuses in its words", async () => {
    const enforce = (level: string) =>
      cluster.kubectl(
        ...["label", "--overwrite", "namespace", kubernetes.namespace],
        `pod-security.kubernetes.io/enforce=${level}`,
      );
    await enforce("baseline");
    assert.equal(await daemon.ok("run", "--rm", "busybox", "echo", "let in"), "let in");
    await enforce("restricted");
    const refused = await daemon.docker("run", "--rm", "busybox", "true");
    assert.match(refused.errorText, /violates PodSecurity "restricted/);
    await enforce("privileged");
  });

  test("where a namespace enforces restricted, containers are users by number", async () => {
    await using restricted = await KubernetesDaemon.start(cluster, {
      kubernetes: { restricted: true },
      prepare: async (namespace) => {
        const label = "pod-security.kubernetes.io/enforce=restricted";
        await cluster.kubectl("label", "namespace", namespace, label);
        return undefined;
      },
    });
    const own = restricted.daemon;
    const options = ["--user", "1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
    await own.ok("run", "--detach", "--name", "few", ...options, "busybox", "sleep", "1d");
    assert.equal(await own.ok("exec", "few", "id", "-u"), "1000");
    const asOther = await own.docker("exec", "--user", "0", "few", "true");
    assert.notEqual(asOther.code, 0);
    assert.match(asOther.text + asOther.errorText, /cannot switch users/);
    assert.equal(await own.ok("run", "--rm", "--user", "1000:1000", "busybox", "echo", "let in"), "let in");
    const asRoot = await own.docker("run", "--rm", "busybox", "true");
    assert.match(asRoot.errorText, /needs a user by number/);
    const privileged = await own.docker("run", "--rm", "--privileged", "--user", "1000", "busybox", "true");
    assert.match(privileged.errorText, /violates PodSecurity "restricted|privileged/);
  });
});
