/** A real Kubernetes behind the proxy that its kubeconfig names. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { suite, test } from "node:test";

import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon, withCluster } from "../support/kubernetes-daemon.ts";
import { listenHere } from "../support/listen-here.ts";

suite("a Kubernetes behind a proxy", { skip: withoutCluster }, () => {
  const cluster = withCluster();

  /** A proxy that tunnels (`CONNECT`). @returns its address, and where it was asked to go */
  const startProxy = async (
    resources: AsyncDisposableStack,
  ): Promise<{ readonly url: string; readonly asked: readonly string[] }> => {
    const asked: string[] = [];
    const server = createServer().on("connect", ({ url = "" }, client) => {
      asked.push(url);
      const [host, port] = url.split(":");
      const target = connect({ host, port: Number(port) }, () => {
        client.write("HTTP/1.1 200 Connection Established\r\n\r\n");
        client.pipe(target).pipe(client);
      });
      target.on("error", () => client.destroy());
      client.on("error", () => target.destroy());
    });
    const port = await listenHere(server);
    resources.defer(() => void server.close());
    return { url: `http://127.0.0.1:${port}`, asked };
  };

  test("has containers, execs and logs, all of whose calls the proxy sees", async () => {
    await using resources = new AsyncDisposableStack();
    const proxy = await startProxy(resources);
    await using kubernetes = await KubernetesDaemon.start(cluster, {
      async prepare() {
        const config = JSON.parse(await readFile(cluster.kubeconfig, "utf8"));
        config.clusters[0].cluster["proxy-url"] = proxy.url;
        const file = join(cluster.directory, "proxied.conf");
        await writeFile(file, JSON.stringify(config));
        return file;
      },
    });
    const { daemon } = kubernetes;
    await daemon.ok("run", "--detach", "--name", "web", "busybox", "sh", "-c", "echo up; sleep 1d");
    const before = proxy.asked.length;
    assert.equal(await daemon.ok("exec", "web", "echo", "within"), "within");
    assert.equal(await daemon.ok("logs", "web"), "up");
    await daemon.ok("rm", "--force", "web");
    const { host } = new URL(
      JSON.parse(await readFile(cluster.kubeconfig, "utf8")).clusters[0].cluster.server,
    );
    assert.ok(before > 0);
    assert.deepEqual([...new Set(proxy.asked)], [host]);
  });
});
