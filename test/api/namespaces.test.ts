/** Containers that join other containers' PID and IPC namespaces, through the real docker CLI. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";

import { backendUnderTest, notOn, onlyOn } from "../support/backend-under-test.ts";
import { findProcess, isAlive } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok, inspect, api } = withDaemon();
const skip = onlyOn("local", "a task's namespaces are its own");

const sleeping = (name: string, ...flags: string[]) =>
  ok(
    ...["run", "-d", "--name", name, ...flags, "busybox"],
    ...["sh", "-c", "trap exit TERM; while sleep 0.1; do :; done"],
  );
const namespace = (container: string, kind: string) =>
  ok("exec", container, "readlink", `/proc/self/ns/${kind}`);

/**
 * A list of processes, once it has so many of the shells that {@link sleeping} runs: a child of theirs is called as they
 * are until it has become its program.
 */
const shellsIn = (list: () => Promise<string>, count: number) =>
  until(async () => {
    const processes = await list();
    return processes.match(/(?<= |^)sh -c trap/gm)?.length === count ? processes : undefined;
  });

/** Counts the mounts of the daemon's containers on the machine. */
async function sharedMemoryMounts(): Promise<number> {
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  return mounts.split("\n").filter((line) => line.includes(`${daemon.runDir}/c/`)).length;
}

describe("docker run --pid container: and --ipc container:", () => {
  test("are refused by name where no two containers have one namespace", {
    skip: notOn("local", "they are shared there"),
  }, async () => {
    await ok("create", "--name", "alone", "--ipc", "shareable", "busybox", "true");
    const both = "--pid, --ipc (host and container:NAME)";
    for (const [hostConfig, named] of [
      [{ PidMode: "container:alone" }, "--pid"],
      [{ PidMode: "host" }, "--pid"],
      [{ IpcMode: "container:alone" }, "--ipc"],
      [{ IpcMode: "host" }, "--ipc"],
    ] as const) {
      const answer = await api.call("POST", "/containers/create", {
        Image: "busybox",
        HostConfig: hostConfig,
      });
      const backend = backendUnderTest();
      const option = backend === "ecs" ? named : both;
      assert.deepEqual(
        [answer.status, answer.json()],
        [501, { message: `the ${backend} backend does not support ${option}` }],
      );
    }
    await ok("rm", "alone");
  });
});

describe("docker run --pid container:", () => {
  test("sees and signals the other's processes, and its own are seen there", { skip }, async () => {
    const donor = await sleeping("pid-donor");
    const joiner = await sleeping("pid-joiner", "--pid", "container:pid-donor", "--init");
    assert.equal(await inspect("pid-joiner", "{{.HostConfig.PidMode}}"), `container:${donor}`);
    assert.equal(await namespace("pid-joiner", "pid"), await namespace("pid-donor", "pid"));
    assert.notEqual(await ok("exec", "pid-joiner", "hostname"), await ok("exec", "pid-donor", "hostname"));
    // Each sees both shells; the first process is the donor's, and `--init` adds none.
    for (const container of ["pid-donor", "pid-joiner"]) {
      const shells = await shellsIn(() => ok("exec", container, "ps", "-o", "args"), 2);
      assert.doesNotMatch(shells, /docker-init/);
    }
    // Docker counts only the container's own processes as its.
    await shellsIn(() => ok("top", "pid-joiner", "-o", "pid,args"), 1);
    const stats = await api.call("GET", `/containers/${joiner}/stats?stream=false&one-shot=true`);
    assert.ok((stats.json() as { pids_stats: { current: number } }).pids_stats.current >= 1);
    await docker("exec", "pid-joiner", "kill", "-TERM", "1"); // which may take the exec along
    assert.equal(await ok("wait", "pid-donor"), "0");
    await ok("rm", "--force", "pid-donor", "pid-joiner");
  });

  test("ends with 137 when the other ends, and the other goes on when it ends", { skip }, async () => {
    await sleeping("first");
    await sleeping("second", "--pid", "container:first");
    await ok("exec", "-d", "second", "sleep", "1000");
    await ok("stop", "second");
    assert.equal(await inspect("second", "{{.State.Status}}"), "exited");
    assert.equal(await inspect("first", "{{.State.Status}}"), "running");
    // Nothing of the second is left there: no kernel has ended it with its first process.
    await until(async () =>
      (await ok("exec", "first", "ps", "-o", "args")).includes("sleep 1000") ? undefined : true,
    );
    await ok("start", "second");
    await ok("stop", "first");
    assert.equal(await ok("wait", "second"), "137");
    assert.equal(await inspect("second", "{{.State.OOMKilled}} {{.State.ExitCode}}"), "false 137");
    const refused = await api.call("POST", "/containers/second/start");
    const id = await inspect("first", "{{.Id}}");
    assert.deepEqual(
      [refused.status, refused.json()],
      [500, { message: `failed to join PID namespace: container ${id} is not running` }],
    );
    await ok("rm", "first");
    const gone = await api.call("POST", "/containers/second/start");
    assert.deepEqual(
      [gone.status, gone.json()],
      [500, { message: `failed to join PID namespace: No such container: ${id}` }],
    );
    await ok("rm", "second");
  });

  test("leaves stop, kill, pause and exec the container's own", { skip }, async () => {
    await sleeping("base");
    await sleeping("guest", "--pid", "container:base");
    await ok("pause", "guest");
    assert.equal(await inspect("base", "{{.State.Status}}"), "running");
    assert.equal(await ok("exec", "base", "echo", "on"), "on");
    await ok("unpause", "guest");
    assert.equal((await docker("exec", "guest", "sh", "-c", "exit 7")).code, 7);
    await ok("kill", "--signal", "KILL", "guest");
    assert.equal(await ok("wait", "guest"), "137");
    assert.equal(await inspect("base", "{{.State.Status}}"), "running");
    await ok("rm", "--force", "base", "guest");
  });

  test("of a container that does not exist, or a mode that is none, is refused at create", async () => {
    const create = (hostConfig: object) =>
      api.call("POST", "/containers/create", { Image: "busybox", HostConfig: hostConfig });
    for (const [hostConfig, message] of [
      [{ PidMode: "container:nosuch" }, "No such container: nosuch"],
      [{ IpcMode: "container:nosuch" }, "No such container: nosuch"],
      [{ PidMode: "private" }, "invalid PID mode: private"],
      [{ IpcMode: "shared" }, "invalid IPC mode: shared"],
      [{ UTSMode: "private" }, "invalid UTS mode: private"],
      [{ CgroupnsMode: "own" }, "invalid cgroup namespace mode: own"],
    ] as const) {
      const answer = await create(hostConfig);
      assert.deepEqual([answer.status, answer.json()], [400, { message }]);
    }
  });
});

describe("docker run --ipc", () => {
  test("is private unless it is told otherwise, and private ones are not joined", { skip }, async () => {
    const donor = await sleeping("closed");
    assert.equal(await inspect("closed", "{{.HostConfig.IpcMode}}"), "private");
    await ok("create", "--name", "knocking", "--ipc", "container:closed", "busybox", "true");
    const refused = await api.call("POST", "/containers/knocking/start");
    assert.deepEqual(
      [refused.status, refused.json()],
      [
        400,
        {
          message: `failed to join IPC namespace: container ${donor}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`,
        },
      ],
    );
    await ok("stop", "closed");
    const stopped = await api.call("POST", "/containers/knocking/start");
    assert.deepEqual(
      [stopped.status, stopped.json()],
      [409, { message: `failed to join IPC namespace: container ${donor} is not running` }],
    );
    await ok("rm", "closed", "knocking");
  });

  test("container: shares /dev/shm and the namespace of a shareable one, in chains too", {
    skip,
  }, async () => {
    await sleeping("sharer", "--ipc", "shareable", "--shm-size", "8m");
    await sleeping("partner", "--ipc", "container:sharer");
    await sleeping("third", "--ipc", "container:partner", "--read-only");
    await ok("exec", "sharer", "sh", "-c", "echo shared > /dev/shm/note");
    assert.equal(await ok("exec", "partner", "cat", "/dev/shm/note"), "shared");
    await ok("exec", "third", "sh", "-c", "echo again >> /dev/shm/note");
    assert.equal(await ok("exec", "sharer", "cat", "/dev/shm/note"), "shared\nagain");
    assert.equal(await namespace("partner", "ipc"), await namespace("sharer", "ipc"));
    assert.equal(await namespace("third", "ipc"), await namespace("sharer", "ipc"));
    assert.match(
      await ok("exec", "partner", "grep", " /dev/shm ", "/proc/mounts"),
      /^\S+ \/dev\/shm tmpfs rw,nosuid,nodev,noexec,.*size=8192k/,
    );
    // It goes on with what it has when the other ends, and the machine's mount goes.
    const mounted = await sharedMemoryMounts();
    assert.ok(mounted > 0);
    await ok("stop", "sharer");
    assert.equal(await ok("exec", "partner", "cat", "/dev/shm/note"), "shared\nagain");
    await until(async () => ((await sharedMemoryMounts()) < mounted ? true : undefined));
    await ok("start", "sharer");
    assert.equal((await docker("exec", "sharer", "cat", "/dev/shm/note")).code, 1);
    await ok("rm", "--force", "sharer", "partner", "third");
    await until(async () => ((await sharedMemoryMounts()) === 0 ? true : undefined));
  });

  test("none has no /dev/shm, host the machine's, and what the user mounts there is not shared", {
    skip,
  }, async () => {
    assert.equal(
      await ok("run", "--rm", "--ipc=none", "busybox", "sh", "-c", "grep -c /dev/shm /proc/mounts || true"),
      "0",
    );
    const own = (await ok("run", "--rm", "--ipc", "host", "busybox", "readlink", "/proc/self/ns/ipc")).trim();
    await sleeping("on-machine", "--ipc", "host");
    assert.equal(
      await ok("run", "--rm", "--ipc", "container:on-machine", "busybox", "readlink", "/proc/self/ns/ipc"),
      own,
    );
    await sleeping("with-volume", "--ipc", "shareable", "--tmpfs", "/dev/shm");
    const refused = await docker("run", "--rm", "--ipc", "container:with-volume", "busybox", "true");
    assert.match(refused.errorText, /non-shareable IPC/);
    await ok("rm", "--force", "on-machine", "with-volume");
  });
});

/** Kills the supervisor, the frontend, the backend and its host process; the shims stay. */
async function killDaemon(): Promise<void> {
  const roles = (["host", "backend", "frontend"] as const).map(
    (role) => findProcess(daemon, role) ?? assert.fail(`no ${role}`),
  );
  const pids = [daemon.pid, ...roles];
  for (const pid of pids) {
    process.kill(pid, "SIGKILL");
  }
  await until(() => pids.every((pid) => !isAlive(pid)) || undefined);
}

describe("after kill -9 of every daemon process", () => {
  test("joined containers are adopted, and their ends and mounts are told truthfully", { skip }, async () => {
    await sleeping("root", "--ipc", "shareable");
    await sleeping("leaf", "--pid", "container:root", "--ipc", "container:root");
    await killDaemon();
    await daemon.launch();
    assert.equal(await namespace("leaf", "pid"), await namespace("root", "pid"));
    await ok("exec", "root", "sh", "-c", "echo still > /dev/shm/note");
    assert.equal(await ok("exec", "leaf", "cat", "/dev/shm/note"), "still");
    const pid = Number(await inspect("root", "{{.State.Pid}}"));
    await killDaemon();
    process.kill(pid, "SIGKILL");
    await daemon.launch();
    assert.equal(await ok("wait", "leaf"), "137");
    assert.equal(await ok("wait", "root"), "137");
    await until(async () => ((await sharedMemoryMounts()) === 0 ? true : undefined));
    await ok("rm", "root", "leaf");
  });
});
