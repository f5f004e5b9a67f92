/** A registry that wants to know who pulls, on a real Kubernetes: nodes by a secret, the backend by its settings. */
import assert from "node:assert/strict";
import { before, suite, test } from "node:test";

import { duringTests } from "../support/during-tests.ts";
import { busyboxImage } from "../support/images.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon, withCluster } from "../support/kubernetes-daemon.ts";
import { registryUser, TestRegistry } from "../support/registry.ts";

suite("a private registry of Kubernetes", { skip: withoutCluster }, () => {
  const { username, password } = registryUser;
  const cluster = withCluster();
  const registry = duringTests(() => TestRegistry.start({ credentials: true }));
  before(async () => {
    await registry.push("private", "1", await busyboxImage());
  });

  /** A daemon whose own images, and the agent's, are in that registry. */
  const start = (settings: Readonly<Record<string, string>>): Promise<KubernetesDaemon> =>
    KubernetesDaemon.start(cluster, {
      kubernetes: {
        registry: `${registry.host}/sockerless`,
        registry_username: username,
        registry_password: password,
        ...settings,
      },
      async prepare(namespace) {
        const server = `--docker-server=${registry.host}`;
        const user = [`--docker-username=${username}`, `--docker-password=${password}`];
        const secret = ["create", "secret", "docker-registry", "pulls", server, ...user];
        await cluster.kubectl("--namespace", namespace, ...secret);
        return undefined;
      },
    });

  test("is told in its own words where nodes have no secret", async () => {
    await using kubernetes = await start({});
    const { daemon } = kubernetes; // No node has an image of it yet.
    const run = await daemon.docker("run", "--rm", "busybox", "true");
    assert.notEqual(run.code, 0);
    assert.match(run.errorText, /sockerless.*(unauthorized|authorization failed|no basic auth credentials)/i);
  });

  test("is pulled from by nodes with the secret that is configured, for what is pulled and committed", async () => {
    await using kubernetes = await start({ pull_secrets: "pulls" });
    const { daemon } = kubernetes;
    const image = `${registry.host}/private:1`;
    await daemon.ok("pull", image);
    assert.equal(
      await daemon.ok("run", "--name", "made", image, "sh", "-c", "echo in >/file; cat /file"),
      "in",
    );
    await daemon.ok("commit", "made", "own");
    assert.equal(await daemon.ok("run", "--rm", "own", "cat", "/file"), "in");
  });
});
