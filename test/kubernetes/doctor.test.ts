/** `sockerless doctor --start-pod` on a real Kubernetes, with the rights of deploy/kubernetes/role.yaml alone. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import type { Finding } from "../../src/common/finding.ts";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { Cluster, withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon } from "../support/kubernetes-daemon.ts";
import { giveRights, rightsOf, roleRules, withoutRight } from "../support/kubernetes-rights.ts";

suite("the doctor on Kubernetes", { skip: withoutCluster }, () => {
  let cluster: Cluster;
  let own: KubernetesDaemon;

  before(async () => {
    cluster = await Cluster.start();
    own = await KubernetesDaemon.start(cluster, {
      prepare: async (namespace) => {
        await giveRights(cluster, namespace, await roleRules());
        return await cluster.kubeconfigOf(namespace, "sockerless");
      },
    });
  });

  after(async () => {
    await own?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
  });

  /** Findings that are not ok, by check. */
  async function look(...flags: readonly string[]): Promise<Record<string, Finding>> {
    const args = ["doctor", "--backend", "kubernetes", "--config", own.config, "--format", "json", ...flags];
    const { code, text, errorText } = await runCommand(join(checkout, "bin/sockerless"), args);
    assert.notEqual(text, "", errorText);
    const findings = JSON.parse(text) as readonly Finding[];
    assert.equal(code, findings.some(({ status }) => status === "wrong") ? 1 : 0, text);
    return Object.fromEntries(
      findings.filter(({ status }) => status !== "ok").map((finding) => [finding.check, finding]),
    );
  }

  const statusesOf = (findings: Record<string, Finding>): Record<string, string> =>
    Object.fromEntries(Object.entries(findings).map(([check, { status }]) => [check, status]));
  const pods = async (): Promise<string> => (await own.kubectl("get", "pods", "--output", "name")).trim();

  /** Lines about what nobody can be asked, and what the role may not read. */
  const always = {
    "network policies": "unknown",
    "the storage class of shared volumes": "unknown",
    "the storage class of block volumes": "unknown",
  };

  test("finds nothing wrong, and leaves no pod", async () => {
    assert.deepEqual(statusesOf(await look()), always);
    assert.deepEqual(statusesOf(await look("--start-pod")), always);
    assert.equal(await pods(), "");
  });

  test("finds an agent's image that nodes cannot pull, and nothing else", async () => {
    const image = `${cluster.registry.host}/nobody/agent:1`;
    const found = await look("--start-pod", "--kubernetes-agent-image", image);
    const { "a pod that starts": start, "the agent's image": other, ...rest } = found;
    assert.equal(start?.status, "wrong");
    assert.match(start?.text ?? "", /ImagePullBackOff|ErrImagePull/);
    assert.equal(other?.status ?? "unknown", "unknown");
    assert.deepEqual(statusesOf(rest), always);
    assert.equal(await pods(), "");
  });

  test("finds a selector that no node has", async () => {
    const flags = ["--kubernetes-node-selector", "nowhere=at-all", "--kubernetes-start-timeout", "8s"];
    const { "a pod that starts": start, ...rest } = await look("--start-pod", ...flags);
    assert.equal(start?.status, "wrong");
    assert.match(start?.text ?? "", /no pod starts within 8 s: Unschedulable: 0\/1 nodes/);
    assert.deepEqual(statusesOf(rest), always);
    assert.equal(await pods(), "");
  });

  test("finds each right that is missing", async () => {
    const rules = await roleRules();
    for (const right of rightsOf(rules)) {
      await giveRights(cluster, own.namespace, withoutRight(rules, right));
      const found = statusesOf(await look());
      assert.equal(found[right], "wrong", JSON.stringify(found));
      const wrong = Object.entries(found).filter(([, status]) => status === "wrong");
      assert.deepEqual(wrong, [[right, "wrong"]]);
    }
    await giveRights(cluster, own.namespace, rules);
  });
});
