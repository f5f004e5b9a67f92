/** Volumes on a real Kubernetes: claims, and who may have them. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { withoutCluster } from "../support/kubernetes-cluster.ts";
import { KubernetesDaemon, withKubernetes } from "../support/kubernetes-daemon.ts";
import { until } from "../support/until.ts";

suite("volumes on Kubernetes", { skip: withoutCluster }, () => {
  const { cluster, kubernetes, daemon } = withKubernetes();

  const claims = async (of = kubernetes): Promise<readonly Claim[]> =>
    JSON.parse(await of.kubectl("get", "persistentvolumeclaims", "--output", "json")).items;
  const claimOf = async (volume: string): Promise<Claim> =>
    (await claims()).find(({ metadata }) => metadata.annotations["sockerless/volume"] === volume) ??
    assert.fail(`no claim of ${volume}`);
  const shell = (volume: string, command: string, ...more: string[]) =>
    daemon.docker("run", "--rm", "--volume", `${volume}:/data`, ...more, "busybox", "sh", "-c", command);

  test("a named volume is a claim from its creation on, and keeps what containers write", async () => {
    await daemon.ok("volume", "create", "--label", "team=web", "kept");
    const { spec } = await claimOf("kept");
    assert.deepEqual(spec.accessModes, ["ReadWriteMany"]);
    assert.equal(spec.resources.requests.storage, String(10 * 1024 ** 3));
    assert.equal((await shell("kept", "echo written >/data/file")).code, 0);
    assert.equal((await shell("kept", "cat /data/file")).text, "written");
  });

  test("containers share a volume while they run, and one may only read it", async () => {
    const reader =
      "until cat /data/word 2>/dev/null; do sleep 0.1; done; touch /data/mine 2>/dev/null || echo no";
    const read = daemon.docker("run", "--rm", "--volume", "both:/data:ro", "busybox", "sh", "-c", reader);
    assert.equal((await shell("both", "echo shared >/data/word")).code, 0);
    assert.equal((await read).text, "shared\nno");
  });

  test("a directory of a volume is mounted by itself", async () => {
    await shell("whole", "mkdir -p /data/part; echo inner >/data/part/file");
    const mount = "type=volume,source=whole,destination=/part,volume-subpath=part";
    assert.equal(await daemon.ok("run", "--rm", "--mount", mount, "busybox", "cat", "/part/file"), "inner");
  });

  test("options are of the claim, and others are refused by name", async () => {
    const create = (...options: string[]) =>
      daemon.docker("volume", "create", ...options.flatMap((option) => ["--opt", option]), "optioned");
    for (const [option, words] of [
      ["type=nfs", /invalid option: "type"/],
      ["size=much", /size must be a size/],
      ["access_mode=mine", /access_mode must be one of/],
    ] as const) {
      const { errorText } = await create(option);
      assert.match(errorText, words);
    }
    const given = ["size=1g", "storage_class=at-first-use", "access_mode=ReadWriteOncePod"];
    assert.equal((await create(...given)).code, 0);
    const { spec, status } = await claimOf("optioned");
    assert.deepEqual(
      [spec.resources.requests.storage, spec.storageClassName, spec.accessModes, status.phase],
      [String(1024 ** 3), "at-first-use", ["ReadWriteOncePod"], "Pending"],
    );
    assert.equal((await create(...given)).code, 0);
    assert.match((await create("size=2g")).errorText, /a volume named optioned exists, with other options/);
    assert.equal((await shell("optioned", "echo bound")).text, "bound");
    assert.equal((await claimOf("optioned")).status.phase, "Bound");
  });

  test("a volume of the driver block belongs to one container until that is removed", async () => {
    await daemon.ok("volume", "create", "--driver", "block", "mine");
    assert.deepEqual((await claimOf("mine")).spec.accessModes, ["ReadWriteOnce"]);
    await daemon.ok("create", "--name", "owner", "--volume", "mine:/data", "busybox", "true");
    const second = await shell("mine", "true");
    assert.match(second.errorText, /volume mine is in use by container owner/);
    await daemon.ok("rm", "owner");
    assert.equal((await shell("mine", "echo free")).text, "free");
  });

  test("one in use stays, one that is not goes with its claim", async () => {
    await daemon.ok("volume", "create", "used");
    await daemon.ok("create", "--name", "user", "--volume", "used:/data", "busybox", "true");
    assert.match((await daemon.docker("volume", "rm", "used")).errorText, /volume is in use/);
    await daemon.ok("volume", "create", "unused");
    const pruned = await daemon.ok("volume", "prune", "--force", "--all");
    assert.match(pruned, /^unused$/m);
    assert.doesNotMatch(pruned, /^used$/m);
    await until(async () => {
      const names = (await claims()).map(({ metadata }) => metadata.annotations["sockerless/volume"]);
      assert.ok(names.includes("used"));
      return !names.includes("unused") || undefined;
    });
    await daemon.ok("rm", "user");
  });

  test("a volume whose claim or disk is lost says so at the start, and can be removed", async () => {
    await shell("gone", "true");
    await shell("diskless", "true");
    await kubernetes.kubectl("delete", "persistentvolumeclaim", (await claimOf("gone")).metadata.name);
    const { metadata, spec } = await claimOf("diskless");
    await cluster.kubectl("delete", "persistentvolume", spec.volumeName ?? "", "--wait=false");
    const noFinalizers = `{"metadata":{"finalizers":null}}`;
    await cluster.kubectl("patch", "persistentvolume", spec.volumeName ?? "", "--patch", noFinalizers);
    await kubernetes.kubectl("wait", "--for=jsonpath={.status.phase}=Lost", `pvc/${metadata.name}`);
    assert.match((await shell("gone", "true")).errorText, /volume gone is lost: its claim \S+ .* is gone/);
    assert.match((await shell("diskless", "true")).errorText, /has lost its persistent volume/);
    await daemon.ok("volume", "rm", "gone", "diskless");
  });

  test("anonymous volumes are directories of the pod's, also where its root cannot be written", async () => {
    const run = await daemon.docker(
      ...["run", "--rm", "--read-only", "--volume", "/own", "busybox"],
      ...["sh", "-c", "echo mine >/own/file && cat /own/file; touch /file"],
    );
    assert.equal(run.text, "mine");
    assert.match(run.errorText, /Read-only file system/);
    const names = (await claims()).map(({ metadata }) => metadata.annotations["sockerless/volume"] ?? "");
    assert.ok(!names.some((name) => /^[0-9a-f]{64}$/.test(name)), names.join());
  });

  test("anonymous volumes are claims where that is configured, and go with their container", async () => {
    const settings = { anonymous_volumes: "claim" };
    await using other = await KubernetesDaemon.start(cluster, { kubernetes: settings });
    await other.daemon.ok(
      ...["run", "--name", "has", "--volume", "/own", "busybox", "sh", "-c", "echo kept >>/own/file"],
    );
    assert.equal((await claims(other)).length, 1);
    await other.daemon.ok("start", "--attach", "has");
    const copied = await other.daemon.ok(
      ...["run", "--rm", "--volumes-from", "has", "busybox", "cat", "/own/file"],
    );
    assert.equal(copied, "kept\nkept");
    await other.daemon.ok("rm", "--volumes", "has");
    await until(async () => (await claims(other)).length === 0 || undefined);
  });
});

interface Claim {
  readonly metadata: { readonly name: string; readonly annotations: Readonly<Record<string, string>> };
  readonly spec: {
    readonly accessModes: readonly string[];
    readonly resources: { readonly requests: { readonly storage: string } };
    readonly storageClassName?: string;
    readonly volumeName?: string;
  };
  readonly status: { readonly phase: string };
}
