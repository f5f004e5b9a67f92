/** Containers on two nodes of a real Kubernetes, of which one is drained and then lost. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { withKubernetes } from "../support/kubernetes-daemon.ts";
import type { ClusterNode } from "../support/kubernetes-node.ts";
import { until, untilTrue } from "../support/until.ts";

suite("containers on two nodes", { skip: withoutCluster }, () => {
  let second: ClusterNode;
  const { cluster, kubernetes, daemon } = withKubernetes({
    async prepare(_namespace, cluster) {
      second = await cluster.addNode();
      return undefined;
    },
  });

  const nodeOf = async (container: string): Promise<string> => {
    const id = await daemon.ok("inspect", "--format", "{{.Id}}", container);
    const selector = `sockerless/container=${id.slice(0, 12)}`;
    const field = "jsonpath={.items[*].spec.nodeName}";
    return await kubernetes.kubectl("get", "pods", "--selector", selector, "--output", field);
  };
  /** Runs a container on a node. */
  const runOn = async (node: string, ...args: string[]): Promise<void> => {
    const other = node === "node1" ? "node2" : "node1";
    await cluster.kubectl("cordon", other);
    await daemon.ok("run", "--detach", ...args);
    await cluster.kubectl("uncordon", other);
  };

  test("reach one another by name, share a volume, and have exec, logs, cp and ports alike", async () => {
    await daemon.ok("network", "create", "shop");
    const shared = ["--network", "shop", "--volume", "both:/both"];
    const serve = "mkdir /w; echo served >/w/index.html; echo up; httpd -f -p 80 -h /w";
    await runOn(
      "node2",
      ...["--name", "web", "--publish", "127.0.0.1:0:80", ...shared, "busybox", "sh", "-c", serve],
    );
    await runOn("node1", "--name", "client", ...shared, "busybox", "sleep", "1d");
    assert.deepEqual([await nodeOf("web"), await nodeOf("client")], ["node2", "node1"]);
    assert.equal(await daemon.ok("exec", "client", "wget", "-qO-", "http://web/"), "served");
    await daemon.ok("exec", "web", "sh", "-c", "echo from node2 >/both/file");
    assert.equal(await daemon.ok("exec", "client", "cat", "/both/file"), "from node2");
    assert.equal(await daemon.ok("logs", "web"), "up");
    await daemon.ok("cp", "web:/w/index.html", "-");
    const port = (await daemon.ok("port", "web", "80")).replace(/^.*:/, "");
    assert.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), "served\n");
  });

  test("of a drained node end, and restart policies bring them back on the other", async () => {
    await runOn("node2", "--name", "again", "--restart", "always", "busybox", "sleep", "1d");
    await cluster.kubectl("drain", "node2", "--force", "--delete-emptydir-data");
    assert.equal(await daemon.ok("wait", "web"), "143");
    await untilTrue(async () => (await nodeOf("again")) === "node1");
    await until(async () => (await daemon.docker("exec", "again", "echo", "back")).text || undefined);
    assert.equal(await daemon.ok("inspect", "--format", "{{.State.Running}}", "client"), "true");
    await cluster.kubectl("uncordon", "node2");
    await daemon.ok("start", "web");
    await daemon.ok("rm", "--force", "again");
  });

  test("of a node that lives, and is deleted in Kubernetes, end with their processes", async () => {
    const slow = "trap 'sleep 1; exit 3' TERM; while :; do sleep 0.1; done";
    await runOn("node2", "--name", "slow", "busybox", "sh", "-c", slow);
    const [code] = await Promise.all([
      daemon.ok("wait", "slow"),
      cluster.kubectl("delete", "node", "node2"), // A minute later its pods are marked as failed, and deleted.
    ]);
    assert.equal(code, "3");
    await daemon.ok("rm", "slow");
    await second.killKubelet();
    second.startKubelet(); // It registers the node again.
    await cluster.kubectl("wait", "--for", "create", "node/node2", "--timeout", "60s");
    await cluster.kubectl("wait", "--for", "condition=Ready", "node/node2", "--timeout", "60s");
  });

  test("of a lost node end in Kubernetes' words, and restart policies bring them back on the other", async () => {
    await runOn("node2", "--name", "lost", "busybox", "sleep", "1d");
    await runOn("node2", "--name", "again", "--restart", "always", "busybox", "sleep", "1d");
    await second.lose();
    await until(async () => {
      const condition = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
      return (
        (await cluster.kubectl("get", "node", "node2", "--output", condition)) === "Unknown" || undefined
      );
    });
    await cluster.kubectl("delete", "node", "node2");
    assert.equal(await daemon.ok("wait", "lost"), "255");
    const error = await daemon.ok("inspect", "--format", "{{.State.Error}}", "lost");
    assert.match(error, /node/);
    await untilTrue(async () => (await nodeOf("again")) === "node1");
    await until(async () => (await daemon.docker("exec", "again", "echo", "back")).text || undefined);
    await daemon.ok("rm", "--force", "again", "lost");
  });
});
