/** A backend with the rights of deploy/kubernetes/role.yaml alone, and with each of them taken away. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon, withCluster } from "../support/kubernetes-daemon.ts";
import { giveRights, rightsOf, roleRules, type Rule, withoutRight } from "../support/kubernetes-rights.ts";
import { until } from "../support/until.ts";

/** Commands of the docker CLI by the right that each fails without. */
const uses: Readonly<Record<string, readonly string[]>> = {
  "create pods": ["run", "--rm", "busybox", "true"],
  "create persistentvolumeclaims": ["volume", "create", "refused"],
  "delete persistentvolumeclaims": ["volume", "rm", "there"],
  "create networkpolicies": ["network", "create", "refused"],
  "delete networkpolicies": ["network", "rm", "connected"],
};

suite("rights on Kubernetes", { skip: withoutCluster }, () => {
  const cluster = withCluster();

  const daemonWith = async (rules: readonly Rule[]): Promise<KubernetesDaemon> =>
    await KubernetesDaemon.start(cluster, {
      kubernetes: { start_timeout: "20s" },
      prepare: async (namespace) => {
        await giveRights(cluster, namespace, rules);
        return await cluster.kubeconfigOf(namespace, "sockerless");
      },
    });

  test("those of the role are enough for all that a container, a volume and a network can be", async () => {
    await using own = await daemonWith(await roleRules());
    const { daemon } = own;
    await daemon.ok("network", "create", "connected");
    await daemon.ok("volume", "create", "there");
    const options = ["--detach", "--name", "lives", "--network", "connected", "--volume", "there:/data"];
    await daemon.ok("run", ...options, "busybox", "sleep", "1d");
    assert.equal(await daemon.ok("exec", "lives", "echo", "in it"), "in it");
    await daemon.ok("network", "create", "second");
    await daemon.ok("network", "connect", "second", "lives");
    await daemon.ok("network", "disconnect", "second", "lives");
    await daemon.ok("rm", "--force", "lives");
    await daemon.ok("volume", "rm", "there");
    await daemon.ok("network", "rm", "connected", "second");
    await until(
      async () => (await own.kubectl("get", "pods,pvc", "--output", "name")).trim() === "" || undefined,
    );
    assert.doesNotMatch(daemon.output, /this backend may not|is forbidden/);
  });

  test("one that is missing is told when the backend starts, and by what needs it", async () => {
    const rules = await roleRules();
    await using own = await daemonWith(rules);
    const { daemon } = own;
    await daemon.ok("network", "create", "connected");
    await daemon.ok("volume", "create", "there");
    for (const right of rightsOf(rules)) {
      const [verb = "", resource = ""] = right.split(" ");
      await giveRights(cluster, own.namespace, withoutRight(rules, right));
      await daemon.shutDown();
      const before = daemon.output.length;
      await daemon.launch();
      await until(
        () => daemon.output.slice(before).includes(`this backend may not ${right} in`) || undefined,
      );
      const use = uses[right] ?? [];
      if (use.length > 0) {
        const { code, errorText } = await daemon.docker(...use);
        assert.notEqual(code, 0, right);
        assert.match(
          errorText,
          new RegExp(`${resource}.* is forbidden: User .* cannot ${verb} resource`),
          right,
        );
      }
    }
  });
});
