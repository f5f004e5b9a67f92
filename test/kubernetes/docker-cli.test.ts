/** The docker CLI on pods of a real Kubernetes. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";

import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { withKubernetes } from "../support/kubernetes-daemon.ts";
import { until } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

suite("the docker CLI on Kubernetes", { skip: withoutCluster }, () => {
  const { cluster, kubernetes, daemon } = withKubernetes();

  test("run shows a container's output and ends with its exit code", async () => {
    const run = await daemon.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3");
    assert.deepEqual([run.text, run.errorText, run.code], ["out", "err", 3]);
  });

  test("exec runs beside, with input and exit code of its own, and cp goes both ways", async () => {
    await daemon.ok(
      ...["run", "--detach", "--name=served", "--hostname=host-of-its-own", "busybox", "sleep", "1d"],
    );
    assert.equal(await daemon.ok("exec", "served", "hostname"), "host-of-its-own");
    const echoed = await daemon.dockerWith(
      { input: "through" },
      "exec",
      "--interactive",
      "served",
      "sh",
      "-c",
      "cat; exit 7",
    );
    assert.deepEqual([echoed.text, echoed.code], ["through", 7]);
    const directory = scratchDirectory();
    await writeFile(join(directory, "file"), "of this machine");
    await daemon.ok("cp", join(directory, "file"), "served:/tmp/file");
    assert.equal(await daemon.ok("exec", "served", "cat", "/tmp/file"), "of this machine");
    await daemon.ok("cp", "served:/etc/hostname", join(directory, "back"));
  });

  test("logs are followed to the end of the container, and are there behind it", async () => {
    await daemon.ok(
      ...["run", "--detach", "--name=counts", "busybox"],
      ...["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done"],
    );
    assert.equal(await daemon.ok("logs", "--follow", "counts"), "1\n2\n3");
    assert.equal(await daemon.ok("wait", "counts"), "0");
    assert.equal(await daemon.ok("logs", "--tail", "1", "counts"), "3");
    assert.equal(
      await daemon.ok("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "counts"),
      "exited 0",
    );
  });

  test("stop asks, kill does not, and a container can be started again", async () => {
    const script = "trap 'exit 42' TERM; while :; do sleep 0.1; done";
    await daemon.ok("run", "--detach", "--name", "asked", "busybox", "sh", "-c", script);
    await daemon.ok("stop", "asked");
    assert.equal(await daemon.ok("inspect", "--format", "{{.State.ExitCode}}", "asked"), "42");
    await daemon.ok("start", "asked");
    await daemon.ok("kill", "asked");
    assert.equal(await daemon.ok("wait", "asked"), "137");
  });

  test("a container that is removed leaves no pod", async () => {
    await daemon.ok("run", "--detach", "--name", "removed", "busybox", "sleep", "1d");
    const id = await daemon.ok("inspect", "--format", "{{.Id}}", "removed");
    const pods = () =>
      kubernetes.kubectl(
        ...["get", "pods", "--selector", `sockerless/container=${id.slice(0, 12)}`, "--output", "name"],
      );
    assert.match(await pods(), /^pod\/sockerless-/);
    await daemon.ok("rm", "--force", "removed");
    await until(async () => ((await pods()) === "" ? true : undefined));
  });

  test("an image that the nodes cannot pull fails the start at once, in the registry's words", async () => {
    const missing = `${cluster.registry.host}/sockerless@sha256:${"0".repeat(64)}`;
    const run = await daemon.docker("run", missing);
    assert.notEqual(run.code, 0);
    assert.match(run.errorText, /not found|unknown/i);
  });

  test("what a pod is given: memory, processors, the agent, and no token", async () => {
    await daemon.ok(
      ...["run", "--detach", "--name=sized", "--memory=64m", "--cpus=0.2", "--user=1000", "busybox", "sleep"],
      "1d",
    );
    const id = await daemon.ok("inspect", "--format", "{{.Id}}", "sized");
    const told = await kubernetes.kubectl(
      ...["get", "pods", "--selector", `sockerless/container=${id.slice(0, 12)}`, "--output", "json"],
    );
    const {
      items: [pod],
    } = JSON.parse(told);
    assert.deepEqual(pod.spec.containers[0].resources.limits, { cpu: "200m", memory: "67108864" });
    assert.equal(pod.spec.automountServiceAccountToken, false);
    assert.equal(await daemon.ok("exec", "sized", "id", "-u"), "1000");
    assert.notEqual((await daemon.docker("exec", "sized", "ls", "/var/run/secrets/kubernetes.io")).code, 0);
  });

  test("containers of a network find one another by name and alias", async () => {
    await daemon.ok("network", "create", "together");
    await daemon.ok(
      ...["run", "--detach", "--name=web", "--network=together", "--network-alias=www", "busybox"],
      ...["sh", "-c", "mkdir /w; echo served >/w/index.html; httpd -f -p 80 -h /w"],
    );
    for (const name of ["web", "www"]) {
      const got = await daemon.docker(
        "run",
        "--rm",
        "--network=together",
        "busybox",
        "sh",
        "-c",
        `until wget -q -O - http://${name}; do sleep 0.1; done`,
      );
      assert.equal(got.text, "served", got.errorText);
    }
  });

  test("a network is a policy, and a label of the pods that are on it", async () => {
    await daemon.ok("network", "create", "open");
    await daemon.ok("network", "create", "--internal", "closed");
    await daemon.ok("run", "--detach", "--name", "member", "--network", "closed", "busybox", "sleep", "1d");
    const idOf = (name: string) => daemon.ok("network", "inspect", "--format", "{{.Id}}", name);
    const [open, closed] = [(await idOf("open")).slice(0, 12), (await idOf("closed")).slice(0, 12)];
    const podsOf = (network: string) =>
      kubernetes.kubectl("get", "pods", "--selector", `sockerless/network-${network}`, "--output", "name");
    const specOf = async (network: string) =>
      JSON.parse(
        await kubernetes.kubectl("get", "networkpolicy", `sockerless-${network}`, "--output", "json"),
      ).spec;
    const members = (network: string) => ({
      podSelector: { matchLabels: { [`sockerless/network-${network}`]: "member" } },
    });
    assert.deepEqual((await specOf(open)).egress, [{}]);
    assert.deepEqual(await specOf(closed), {
      ...members(closed),
      policyTypes: ["Ingress", "Egress"],
      ingress: [{ from: [members(closed)] }],
      egress: [{ to: [members(closed)] }],
    });
    const pod = await podsOf(closed);
    assert.match(pod, /^pod\/sockerless-\S+$/);
    await daemon.ok("network", "connect", "open", "member");
    assert.equal(await podsOf(open), pod);
    await daemon.ok("network", "disconnect", "closed", "member");
    assert.equal(await podsOf(closed), "");
    await daemon.ok("rm", "--force", "member");
    await kubernetes.kubectl("delete", "networkpolicy", `sockerless-${closed}`);
    await daemon.ok("run", "--rm", "--network", "closed", "busybox", "true");
    assert.equal((await specOf(closed)).egress.length, 1, "a start makes again what somebody has deleted");
    await daemon.ok("network", "rm", "open", "closed");
    const left = await kubernetes.kubectl("get", "networkpolicies", "--output", "name");
    assert.ok(!left.includes(open) && !left.includes(closed), left);
  });

  test("a published port reaches the container", async () => {
    await daemon.ok(
      ...["run", "--detach", "--name=published", "--publish=127.0.0.1::80", "busybox"],
      ...["sh", "-c", "mkdir /w; echo seen >/w/index.html; httpd -f -p 80 -h /w"],
    );
    const address = await daemon.ok("port", "published", "80/tcp");
    await until(async () => {
      try {
        return (await (await fetch(`http://${address}/`)).text()) === "seen\n" || undefined;
      } catch {
        return undefined;
      }
    });
  });

  test("an image that is committed or loaded is had by the nodes", async () => {
    await daemon.ok("run", "--name", "changed", "busybox", "sh", "-c", "echo kept >/kept");
    await daemon.ok("commit", "changed", "committed");
    assert.equal(await daemon.ok("run", "--rm", "committed", "cat", "/kept"), "kept");
  });

  test("what is not built is refused by name", async () => {
    for (const [args, name] of [
      [["--device", "/dev/fuse"], /--device/],
      [["--network", "container:served"], /--network container/],
    ] as const) {
      const run = await daemon.docker("run", "--rm", ...args, "busybox", "true");
      assert.match(run.errorText, name);
      assert.notEqual(run.code, 0);
    }
  });

  test("a command that runs out of memory is told so", async () => {
    const run = await daemon.docker(
      ...["run", "--name=greedy", "--memory=32m", "busybox", "sh", "-c", "tail /dev/zero"],
    );
    assert.equal(run.code, 137, run.errorText);
    assert.equal(await daemon.ok("inspect", "--format", "{{.State.OOMKilled}}", "greedy"), "true");
  });
});
