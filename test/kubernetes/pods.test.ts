/** Settings of pods: those of containers that tasks of other clouds cannot have, and those of the configuration. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon, withKubernetes } from "../support/kubernetes-daemon.ts";
import { tarOf } from "../support/tar.ts";
import { until } from "../support/until.ts";

suite("settings of pods on Kubernetes", { skip: withoutCluster }, () => {
  const { cluster, daemon } = withKubernetes();

  const run = (options: readonly string[], command: string) =>
    daemon.docker("run", "--rm", ...options, "busybox", "sh", "-c", command);
  const output = async (options: readonly string[], command: string): Promise<string> => {
    const { text, errorText, code } = await run(options, command);
    assert.equal(code, 0, errorText);
    return text;
  };
  const capabilities = "grep ^CapEff: /proc/self/status | cut -f 2";

  test("--privileged and --cap-add give capabilities, --cap-drop takes them", async () => {
    const has = async (...options: string[]) => BigInt(`0x${await output(options, capabilities)}`);
    const [chown, netAdmin, sysAdmin] = [1n << 0n, 1n << 12n, 1n << 21n];
    const usual = await has();
    assert.deepEqual([usual & chown, usual & netAdmin], [chown, 0n]);
    assert.equal((await has("--cap-add", "net_admin")) & netAdmin, netAdmin);
    assert.equal((await has("--cap-drop", "CHOWN")) & chown, 0n);
    assert.equal(await has("--cap-drop", "ALL"), 0n);
    const all = await has("--cap-add", "ALL", "--cap-drop", "SYS_ADMIN");
    assert.deepEqual([all & netAdmin, all & sysAdmin], [netAdmin, 0n]);
    assert.equal((await has("--privileged")) & netAdmin, netAdmin);
  });

  test("--privileged may make mounts and devices, another container not", async () => {
    const mounts = "mkdir /m && mount -t tmpfs none /m && touch /m/file && ls /m";
    assert.equal(await output(["--privileged"], mounts), "file");
    assert.notEqual((await run([], mounts)).code, 0);
  });

  test("--read-only keeps all but its mounts from being written", async () => {
    const { text, errorText } = await run(
      ["--read-only", "--tmpfs", "/scratch"],
      "touch /scratch/file && ls /scratch; touch /file",
    );
    assert.equal(text, "file");
    assert.match(errorText, /Read-only file system/);
  });

  test("--tmpfs and --shm-size are memory of their size", async () => {
    const sizes = "df -k /scratch /dev/shm | awk 'NR > 1 {print $1, $2}'";
    assert.equal(
      await output(["--tmpfs", "/scratch:size=8m", "--shm-size", "16m"], sizes),
      "tmpfs 8192\ntmpfs 16384",
    );
  });

  test("--hostname, --add-host and --dns are what the container finds", async () => {
    const text = await output(
      [
        ...["--hostname", "of-its-own", "--domainname", "example.com", "--add-host", "other:192.0.2.7"],
        ...["--dns", "192.0.2.53", "--dns-search", "example.org", "--dns-option", "ndots:2"],
      ],
      "hostname; hostname -f; grep other /etc/hosts; cat /etc/resolv.conf",
    );
    assert.match(text, /^of-its-own\nof-its-own\.example\.com\n192\.0\.2\.7\s+other\n/);
    for (const line of ["nameserver 192.0.2.53", "search example.org", "options ndots:2"]) {
      assert.ok(text.includes(line), text);
    }
  });

  test("--sysctl that the kubelet takes for safe is set, another is refused in its words", async () => {
    const port = "net.ipv4.ip_unprivileged_port_start";
    assert.equal(
      await output(["--sysctl", `${port}=1000`], `cat /proc/sys/${port.replaceAll(".", "/")}`),
      "1000",
    );
    const refused = await run(["--sysctl", "kernel.msgmax=65536"], "true");
    assert.match(refused.errorText, /SysctlForbidden|forbidden sysctl/);
  });

  test("--gpus asks for the nodes' resource, by number", async () => {
    const gpu = "example.com/gpu";
    const patch = JSON.stringify({ status: { capacity: { [gpu]: "2" }, allocatable: { [gpu]: "2" } } });
    await cluster.kubectl("patch", "node", "node1", "--subresource=status", "--type=merge", "--patch", patch);
    await using own = await KubernetesDaemon.start(cluster, { kubernetes: { gpu_resource: gpu } });
    await own.daemon.ok("run", "--detach", "--gpus", "2", "busybox", "sleep", "1d");
    const limits = await own.kubectl(
      ...["get", "pods", "--output", "jsonpath={.items[0].spec.containers[0].resources.limits}"],
    );
    assert.deepEqual(JSON.parse(limits), { [gpu]: "2" });
    const all = await own.daemon.docker("run", "--rm", "--gpus", "all", "busybox", "true");
    assert.match(all.errorText, /--gpus \(all/);
  });

  test("docker stats tells of memory, and docker cp reaches a container that has not started", async () => {
    await daemon.ok("run", "--detach", "--name", "measured", "--memory", "64m", "busybox", "sleep", "1d");
    await until(async () => {
      const told = await daemon.ok("stats", "--no-stream", "--format", "{{.MemUsage}}", "measured");
      return /^[1-9.]\S*iB \/ 64MiB$/.test(told) || undefined;
    });
    await daemon.ok("create", "--name", "later", "busybox", "cat", "/given");
    const archive = daemon.dockerWith(
      { input: await tarOf([{ name: "given", content: "before" }]) },
      "cp",
      "-",
      "later:/",
    );
    assert.equal((await archive).code, 0);
    assert.equal(await daemon.ok("start", "--attach", "later"), "before");
  });

  test("what no pod can have is refused by name", async () => {
    for (const [options, name] of [
      [["--network", "container:measured"], /--network container:NAME/],
      [["--pid", "container:measured"], /--pid, --ipc/],
      [["--pid", "host"], /--pid, --ipc/],
      [["--network", "none"], /--network none/],
      [["--device", "/dev/fuse"], /--device/],
      [["--cgroup-parent", "mine"], /--cgroup-parent/],
    ] as const) {
      const { errorText, code } = await run(options, "true");
      assert.match(errorText, name);
      assert.notEqual(code, 0);
    }
  });

  test("all pods are as the configuration says, and none asks for more than it lets them", async () => {
    await cluster.apply({
      ...{ apiVersion: "scheduling.k8s.io/v1", kind: "PriorityClass", value: 7 },
      metadata: { name: "of-tests" },
    });
    await cluster.kubectl("label", "node", "node1", "pool=docker", "--overwrite");
    await cluster.kubectl("taint", "node", "node1", "dedicated=docker:PreferNoSchedule", "--overwrite");
    await using own = await KubernetesDaemon.start(cluster, {
      kubernetes: {
        node_selector: ["pool=docker"],
        tolerations: ["dedicated=docker:PreferNoSchedule"],
        priority_class: "of-tests",
        annotations: ["example.com/team=web"],
        service_account: "default",
        max_memory: "128m",
        pod_patch: { spec: { containers: [{ name: "main", env: [{ name: "PATCHED", value: "1" }] }] } },
      },
    });
    await own.daemon.ok("run", "--detach", "--label", "sockerless/instance=taken", "busybox", "sleep", "1d");
    const [pod] = JSON.parse(await own.kubectl("get", "pods", "--output", "json")).items;
    assert.equal(pod.spec.nodeSelector.pool, "docker");
    assert.equal(pod.spec.priority, 7);
    assert.ok(pod.spec.tolerations.some(({ key }: { key: string }) => key === "dedicated"));
    assert.equal(pod.metadata.annotations["example.com/team"], "web");
    assert.notEqual(pod.metadata.labels["sockerless/instance"], "taken");
    assert.equal(pod.spec.automountServiceAccountToken, false);
    assert.equal(pod.spec.containers[0].env.at(-1).name, "PATCHED");
    const large = await own.daemon.docker("run", "--rm", "--memory", "1g", "busybox", "true");
    assert.match(large.errorText, /kubernetes\.max_memory/);
  });

  test("agents are reached at the addresses of their pods, where that is configured", async () => {
    await using own = await KubernetesDaemon.start(cluster, { kubernetes: { agent_mode: "direct" } });
    await own.daemon.ok("run", "--detach", "--name", "dialled", "busybox", "sleep", "1d");
    assert.equal(await own.daemon.ok("exec", "dialled", "echo", "reached"), "reached");
    assert.equal(
      await own.daemon.ok("exec", "dialled", "sh", "-c", "netstat -ltn | grep -c ' :::9111 '"),
      "1",
    );
  });

  test("a patch that Kubernetes does not know is told when the backend starts", async () => {
    const pod_patch = "{spec: {hostNetwrok: true}}";
    await using own = await KubernetesDaemon.start(cluster, { kubernetes: { pod_patch } });
    await until(() => /unknown field \\?"spec\.hostNetwrok/.test(own.daemon.output) || undefined);
  });
});
