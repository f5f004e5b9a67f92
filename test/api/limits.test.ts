/** Limits that the machine's kernel cannot keep, and what inspect tells of a run's network. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, rmdirSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { describe, test } from "node:test";

import { backendUnderTest, onlyOn } from "../support/backend-under-test.ts";
import { callApi } from "../support/call-api.ts";
import { recordName } from "../support/made.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok, inspect } = withDaemon();

describe("a limit that the machine cannot keep", () => {
  // Version 1 has the weight only under some schedulers; version 2's depends on the io controller.
  const keepsWeight =
    backendUnderTest() === "local" &&
    (existsSync("/sys/fs/cgroup/blkio/blkio.weight") || existsSync("/sys/fs/cgroup/cgroup.controllers"));
  const warning =
    "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.";

  test("is discarded with a warning, at a creation and at an update", { skip: keepsWeight }, async () => {
    const run = await docker(
      ...["run", "-d", "--name=weighed", "--blkio-weight", "300", "busybox", "sleep", "1000"],
    );
    assert.equal(run.code, 0, run.errorText);
    assert.match(run.errorText, new RegExp(`WARNING: ${warning}`));
    assert.equal(await inspect("weighed", "{{.HostConfig.BlkioWeight}}"), "0");
    const update = (body: object) =>
      callApi(daemon.socket, "POST", "/v1.51/containers/weighed/update", { body });
    assert.deepEqual((await update({ BlkioWeight: 300 })).json(), { Warnings: [warning] });
    assert.deepEqual((await update({})).json(), { Warnings: null });
    await ok("rm", "--force", "weighed");
  });

  test("as one of another operating system is", async () => {
    const answer = await callApi(daemon.socket, "POST", "/v1.51/containers/create?name=percent", {
      body: { Image: "busybox", HostConfig: { CpuPercent: 50 } },
    });
    const { Warnings } = answer.json() as { Warnings: string[] };
    assert.deepEqual(Warnings, ["linux does not support CPU percent. Percent discarded."]);
    await ok("rm", "percent");
  });
});

describe("docker run --cgroup-parent", {
  skip: onlyOn("local", "control groups of tasks are the platform's"),
}, () => {
  test("puts the container's groups below that one, from which they go again", async () => {
    const parent = recordName(`skl-test-${process.pid}`);
    const id = await ok("run", "-d", "--cgroup-parent", `/${parent}/inner`, "busybox", "sleep", "1000");
    const groups = await readFile(`/proc/${await inspect(id, "{{.State.Pid}}")}/cgroup`, "utf8");
    assert.ok(groups.includes(`/${parent}/inner/${id}\n`), groups);
    assert.equal(await inspect(id, "{{.HostConfig.CgroupParent}}"), `/${parent}/inner`);
    assert.equal((await docker("exec", id, "true")).code, 0);
    await ok("pause", id);
    await ok("unpause", id);
    await ok("rm", "--force", id);
    const roots = [
      "/sys/fs/cgroup",
      ...readdirSync("/sys/fs/cgroup").map((name) => `/sys/fs/cgroup/${name}`),
    ];
    const left = () => roots.filter((root) => existsSync(`${root}/${parent}/inner/${id}`));
    await until(() => (left().length === 0 ? true : undefined));
    for (const root of roots.filter((each) => existsSync(`${each}/${parent}`))) {
      rmdirSync(`${root}/${parent}/inner`);
      rmdirSync(`${root}/${parent}`);
    }
  });
});

describe("the sandbox of a container", {
  skip: onlyOn("local", "a task's namespaces are not on this machine"),
}, () => {
  const sandbox = (container: string) =>
    inspect(container, "{{.NetworkSettings.SandboxID}} {{.NetworkSettings.SandboxKey}}");

  test("is named while it runs, by an ID and by the path of its network namespace", async () => {
    await ok("run", "-d", "--name", "netted", "busybox", "sleep", "1000");
    const [id = "", key = ""] = (await sandbox("netted")).split(" ");
    assert.match(id, /^[0-9a-f]{64}$/);
    const pid = await inspect("netted", "{{.State.Pid}}");
    assert.equal((await stat(key)).ino, (await stat(`/proc/${pid}/ns/net`)).ino);
    await ok("run", "-d", "--name", "guest", "--network", "container:netted", "busybox", "sleep", "1000");
    assert.equal((await sandbox("guest")).trim(), "");
    await ok("restart", "--time", "0", "netted");
    assert.notEqual((await sandbox("netted")).split(" ")[0], id);
    await ok("stop", "--time", "0", "netted");
    assert.equal((await sandbox("netted")).trim(), "");
    await until(() => (existsSync(key) ? undefined : true));
    await ok("rm", "--force", "netted", "guest");
  });
});
