/** `sockerless doctor --start-pod` on a real Kubernetes, with the rights of deploy/kubernetes/role.yaml alone. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { suite, test } from "node:test";

import type { V1PodList } from "@kubernetes/client-node";

import type { Finding } from "../../src/common/finding.ts";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { withKubernetes } from "../support/kubernetes-daemon.ts";
import { giveRights, rightsOf, roleRules, withoutRight } from "../support/kubernetes-rights.ts";
import { askMetrics, sumOf } from "../support/metrics.ts";
import { untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

suite("the doctor on Kubernetes", { skip: withoutCluster }, () => {
  const metrics = join(scratchDirectory(), "metrics.sock");
  const { cluster, kubernetes: own } = withKubernetes({
    daemon: { args: ["--metrics-addr", `unix://${metrics}`] },
    prepare: async (namespace, cluster) => {
      await giveRights(cluster, namespace, await roleRules());
      return await cluster.kubeconfigOf(namespace, "sockerless");
    },
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

  const { "network policies": _, ...untried } = always;
  /** This cluster's network is a plain bridge, which enforces no policies. */
  const tried = { ...always, "network policies": "warning" };

  test("finds nothing wrong, and leaves no pod", async () => {
    const policies = () => own.kubectl("get", "networkpolicies", "--output", "name");
    const before = await policies();
    assert.deepEqual(statusesOf(await look()), always);
    assert.deepEqual(statusesOf(await look("--start-pod")), tried);
    assert.equal(await pods(), "");
    assert.equal(await policies(), before);
  });

  test("finds an agent's image that nodes cannot pull, and nothing else", async () => {
    const image = `${cluster.registry.host}/nobody/agent:1`;
    const found = await look("--start-pod", "--kubernetes-agent-image", image);
    const { "a pod that starts": start, "the agent's image": other, ...rest } = found;
    assert.equal(start?.status, "wrong");
    assert.match(start?.text ?? "", /ImagePullBackOff|ErrImagePull/);
    assert.equal(other?.status ?? "unknown", "unknown");
    assert.deepEqual(statusesOf(rest), always); // No pod has run that could be called.
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

  test("finds a registry that has no agent", async () => {
    const found = await look("--kubernetes-registry", `${cluster.registry.host}/nobody`);
    assert.deepEqual(statusesOf(found), { ...always, "the agent's image": "wrong" });
  });

  test("finds that network policies hold where the network enforces one", async () => {
    /** Enforces it in place of a plugin: port 9111 of pods is for members of the network alone. */
    const nft = async (...args: readonly string[]): Promise<void> => {
      const { code, text } = await runCommand("nft", args);
      assert.equal(code, 0, text);
    };
    const table = ["bridge", "sockerless_doctor_test"];
    await nft("add", "table", ...table);
    await nft("add", "set", ...table, "members", "{ type ipv4_addr; }");
    await nft("add", "chain", ...table, "forward", "{ type filter hook forward priority 0; }");
    await nft(
      "add",
      "rule",
      ...table,
      "forward",
      "ip",
      "saddr",
      "!=",
      "@members",
      "tcp",
      "dport",
      "9111",
      "drop",
    );
    const over = new AbortController();
    const enforcing = (async () => {
      while (!over.signal.aborted) {
        const { items } = JSON.parse(await own.kubectl("get", "pods", "--output", "json")) as V1PodList;
        for (const { metadata, status } of items) {
          const labels = Object.keys(metadata?.labels ?? {});
          if (
            labels.some((label) => label.startsWith("sockerless/network-")) &&
            status?.podIP !== undefined
          ) {
            await nft("add", "element", ...table, "members", `{ ${status.podIP} }`);
          }
        }
        await setTimeout(200);
      }
    })();
    try {
      assert.deepEqual(statusesOf(await look("--start-pod")), untried);
    } finally {
      over.abort();
      await enforcing;
      await nft("delete", "table", ...table);
    }
  });

  test("tells what the namespace's quota leaves, and metrics what is taken of it", async () => {
    const quota = {
      apiVersion: "v1",
      kind: "ResourceQuota",
      metadata: { name: "few", namespace: own.namespace },
    };
    await cluster.apply({ ...quota, spec: { hard: { pods: "3", "requests.cpu": "1500m" } } });
    const sized = ["--kubernetes-cpu-request", "250m"];
    await own.daemon.ok("run", "--detach", "--name", "one", "--cpus", "0.5", "busybox", "sleep", "1d");
    const measured = async (what: "limit" | "used", resource: string): Promise<number> =>
      sumOf((await askMetrics(metrics, "/metrics")).text, `sockerless_cloud_quota_${what}`, {
        quota: `few/${resource}`,
      });
    await untilTrue(async () => (await measured("used", "requests.cpu")) === 0.5);
    assert.deepEqual(
      [
        await measured("limit", "requests.cpu"),
        await measured("limit", "pods"),
        await measured("used", "pods"),
      ],
      [1.5, 3, 1],
    );
    assert.deepEqual(statusesOf(await look(...sized, "--containers", "2")), always);
    const { "the namespace's quotas": found, ...rest } = await look(...sized, "--containers", "3");
    assert.match(
      found?.text ?? "",
      /^the quota few\/pods: room for 2 of the smallest containers, not for 3; /,
    );
    assert.deepEqual(statusesOf(rest), always);
    await cluster.apply({ ...quota, spec: { hard: { pods: "1" } } });
    await untilTrue(async () => (await measured("limit", "pods")) === 1);
    const { "the namespace's quotas": full, ...others } = await look(...sized);
    assert.match(full?.text ?? "", /no room for a container now: .*exceeded quota/);
    assert.deepEqual(statusesOf(others), always);
    await own.daemon.ok("rm", "--force", "one");
    await own.kubectl("delete", "resourcequota", "few");
  });

  test("finds each right that is missing", async () => {
    const rules = await roleRules();
    for (const right of rightsOf(rules)) {
      await giveRights(cluster, own.namespace, withoutRight(rules, right));
      const found = statusesOf(await look());
      const isNeeded = right !== "get namespaces";
      assert.equal(found[right], isNeeded ? "wrong" : "warning", JSON.stringify(found));
      const wrong = Object.entries(found).filter(([, status]) => status === "wrong");
      assert.deepEqual(wrong, isNeeded ? [[right, "wrong"]] : []);
    }
    await giveRights(cluster, own.namespace, rules);
  });
});
