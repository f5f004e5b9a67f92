/** Agents of pods that call the backend (`kubernetes.agent_mode: callback`), on a real Kubernetes. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { settingsOf, withKubernetes } from "../support/kubernetes-daemon.ts";
import { killAndAwaitNext } from "../support/processes.ts";
import { until } from "../support/until.ts";

const mib = 1024 * 1024;

interface Variable {
  readonly name: string;
  readonly value: string;
}

interface Policy {
  readonly spec: { readonly egress: readonly { readonly to?: unknown }[] };
}

suite("agents that call on Kubernetes", { skip: withoutCluster }, () => {
  const { cluster, kubernetes, daemon } = withKubernetes({ kubernetes: settingsOf("callback") });

  test("carry streams while there is no API server", async () => {
    await daemon.ok("run", "--detach", "--name", "served", "busybox", "sleep", "1d");
    await cluster.killApiServer();
    try {
      const input = Buffer.alloc(8 * mib, "x");
      const { stdout, code } = await daemon.dockerWith({ input }, "exec", "--interactive", "served", "cat");
      assert.deepEqual([stdout.equals(input), code], [true, 0]);
    } finally {
      await cluster.startApiServer();
    }
    const run = await daemon.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3");
    assert.deepEqual([run.text, run.errorText, run.code], ["out", "err", 3]);
  });

  test("are met again by a backend that was killed, and tell it of ends meanwhile", async () => {
    await daemon.ok("run", "--detach", "--name", "stays", "busybox", "sleep", "1d");
    const script = "until [ -e /go ]; do sleep 0.1; done; echo said; exit 4";
    await daemon.ok("run", "--detach", "--name", "ends", "busybox", "sh", "-c", script);
    await daemon.ok("exec", "--detach", "ends", "sh", "-c", "sleep 1; touch /go");
    await killAndAwaitNext(daemon, "backend");
    assert.equal(await daemon.ok("exec", "stays", "echo", "there"), "there");
    assert.equal(await daemon.ok("wait", "ends"), "4");
    assert.equal(await daemon.ok("logs", "ends"), "said");
  });

  test("are taken for a pod's by its key alone, whoever calls in its container's name", async () => {
    await daemon.ok("run", "--detach", "--name", "intruder", "busybox", "sleep", "1d");
    const id = await daemon.ok(
      ...["create", "--name", "meant", "busybox", "sh", "-c"],
      "until [ -e /go ]; do sleep 0.1; done",
    );
    const pods = JSON.parse(await kubernetes.kubectl("get", "pods", "--output", "json"));
    const own = pods.items[0].spec.containers[0].env.map(({ name, value }: Variable) => `${name}=${value}`);
    const told = [...own, `SOCKERLESS_CONTAINER_ID=${id}`].flatMap((each) => ["--env", each]);
    const agent = ["/.sockerless/sockerless-agent", "init", "--listen", "127.0.0.1:9112"];
    await daemon.ok("exec", "--detach", ...told, "intruder", ...agent);
    const listens = "netstat -lnt | grep -q 127.0.0.1:9112";
    await until(
      async () => (await daemon.docker("exec", "intruder", "sh", "-c", listens)).code === 0 || undefined,
    );
    await daemon.ok("start", "meant");
    await daemon.ok("exec", "meant", "touch", "/go");
    assert.equal(await daemon.ok("wait", "meant"), "0");
    const touched = await daemon.docker("exec", "intruder", "ls", "/go");
    assert.notEqual(touched.code, 0);
    assert.equal((await daemon.docker("exec", "intruder", "sh", "-c", listens)).code, 0);
  });

  test("of an internal network may leave it for the backend, and nobody else", async () => {
    await daemon.ok("network", "create", "--internal", "shut");
    const policies = JSON.parse(await kubernetes.kubectl("get", "networkpolicies", "--output", "json"));
    const shut = policies.items.find(({ spec }: Policy) => spec.egress[0]?.to !== undefined);
    assert.deepEqual(
      shut.spec.egress[1].ports.map(({ port }: { readonly port: number }) => port !== 53),
      [true, false, false],
    );
    assert.equal(await daemon.ok("run", "--rm", "--network", "shut", "busybox", "echo", "called"), "called");
  });
});
