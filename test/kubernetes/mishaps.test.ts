/** Mishaps in a real Kubernetes, and how clients hear of them. */
import assert from "node:assert/strict";
import { after, before, suite, test } from "node:test";

import type { Daemon } from "../support/daemon.ts";
import { Cluster, withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon } from "../support/kubernetes-daemon.ts";
import { until } from "../support/until.ts";

suite("mishaps on Kubernetes", { skip: withoutCluster }, () => {
  let cluster: Cluster;
  let kubernetes: KubernetesDaemon;
  let daemon: Daemon;

  before(async () => {
    cluster = await Cluster.start();
    kubernetes = await KubernetesDaemon.start(cluster);
    ({ daemon } = kubernetes);
  });

  after(async () => {
    await kubernetes?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
  });

  const podOf = async (container: string): Promise<string> => {
    const id = await daemon.ok("inspect", "--format", "{{.Id}}", container);
    const selector = `sockerless/container=${id.slice(0, 12)}`;
    return (await kubernetes.kubectl("get", "pods", "--selector", selector, "--output", "name")).trim();
  };
  const stateOf = (container: string, fields = "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}") =>
    daemon.ok("inspect", "--format", fields, container);

  test("an API server that restarts ends neither exec, nor logs, nor a container's record", async () => {
    await daemon.ok(
      "run",
      "--detach",
      "--name",
      "lasts",
      "busybox",
      "sh",
      "-c",
      "until [ -e /go ]; do sleep 0.2; done; echo gone; exit 9",
    );
    const logs = daemon.docker("logs", "--follow", "lasts");
    const script = "echo begun >/begun; read word; echo $word; touch /go; exit 5";
    const typed = Promise.withResolvers<string>();
    const input = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from(await typed.promise);
    };
    const exec = daemon.dockerWith({ input: input() }, "exec", "--interactive", "lasts", "sh", "-c", script);
    await until(async () => (await daemon.docker("exec", "lasts", "cat", "/begun")).text || undefined);
    await cluster.killApiServer();
    typed.resolve("through\n");
    assert.match(await stateOf("lasts"), /^running/);
    await cluster.startApiServer();
    const { text, code } = await exec;
    assert.deepEqual([text, code], ["through", 5]);
    assert.equal((await logs).text, "gone");
    assert.equal(await daemon.ok("wait", "lasts"), "9");
    assert.equal(await daemon.ok("run", "--rm", "busybox", "echo", "works again"), "works again");
  });

  test("a pod that somebody deletes ends its container, and who has done it is told", async () => {
    await daemon.ok(
      "run",
      "--detach",
      "--name",
      "deleted",
      "busybox",
      "sh",
      "-c",
      "trap 'exit 0' TERM; while :; do sleep 0.1; done",
    );
    await kubernetes.kubectl("delete", await podOf("deleted"), "--wait=false");
    assert.equal(await daemon.ok("wait", "deleted"), "255");
    // The agent tells of the end first, Kubernetes a moment later of its cause.
    await until(
      async () => /^exited 255 .*deleted in Kubernetes/.test(await stateOf("deleted")) || undefined,
    );
  });

  test("a backend that was away finds its containers, and how they have ended meanwhile", async () => {
    await daemon.ok("run", "--detach", "--name", "stays", "busybox", "sleep", "1d");
    await daemon.ok(
      "run",
      "--detach",
      "--name",
      "ends",
      "busybox",
      "sh",
      "-c",
      "until [ -e /go ]; do sleep 0.1; done; exit 4",
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

  test("a namespace's rules for pods hold: baseline lets them in, restricted refuses in its words", async () => {
    const enforce = (level: string) =>
      cluster.kubectl(
        "label",
        "--overwrite",
        "namespace",
        kubernetes.namespace,
        `pod-security.kubernetes.io/enforce=${level}`,
      );
    await enforce("baseline");
    assert.equal(await daemon.ok("run", "--rm", "busybox", "echo", "let in"), "let in");
    await enforce("restricted");
    const refused = await daemon.docker("run", "--rm", "busybox", "true");
    assert.match(refused.errorText, /violates PodSecurity "restricted/);
    await enforce("privileged");
  });
});
