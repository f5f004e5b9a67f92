/** Verbs of a container's life beside starting and stopping it, through the real docker CLI. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { backendUnderTest, notOn, onlyOn } from "../support/backend-under-test.ts";
import { callApi } from "../support/call-api.ts";
import { pastEvents } from "../support/past-events.ts";
import { assertDescribed } from "../support/swagger.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok, inspect, api } = withDaemon();

/** Events of a container so far, in order; without the phases of starts, which the cloud tells beside dockerd's events. */
const eventsOf = (id: string) => pastEvents(daemon, { container: [id] });
const actionsOf = async (id: string) => (await eventsOf(id)).map(({ Action }) => Action);

/** A container that counts in its log as long as it is not frozen. */
const counting = (name: string, ...flags: string[]) =>
  ok(
    ...["run", "-d", "--name", name, ...flags, "busybox"],
    ...["sh", "-c", "i=0; while sleep 0.02; do i=$((i+1)); echo $i; done"],
  );

/** A container's log, once it has not grown for as long as it would take a {@link counting} one to write many lines. */
async function settledLogs(container: string): Promise<string> {
  const seen: string[] = [];
  return await until(async () => {
    seen.push(await ok("logs", container));
    const last = seen.slice(-5);
    return last.length === 5 && last.every((text) => text === last[0]) ? last[0] : undefined;
  });
}

describe("docker pause", () => {
  test("freezes the processes until unpause, and tells both", async () => {
    const id = await counting("frozen");
    await until(async () => ((await ok("logs", "frozen")) === "" ? undefined : true));
    await ok("pause", "frozen");
    assert.equal(
      await inspect("frozen", "{{.State.Status}} {{.State.Running}} {{.State.Paused}}"),
      "paused true true",
    );
    assert.match(await ok("ps", "--filter", "name=frozen", "--format", "{{.Status}}"), /^Up .* \(Paused\)$/);
    const still = await settledLogs("frozen");
    await ok("unpause", "frozen");
    assert.equal(await inspect("frozen", "{{.State.Status}}"), "running");
    await until(async () => ((await ok("logs", "frozen")) === still ? undefined : true));
    assert.deepEqual((await actionsOf(id)).slice(-2), ["pause", "unpause"]);
    await ok("rm", "--force", "frozen");
  });

  test("refuses what a paused container cannot do, in Docker's words", async () => {
    const id = await counting("stiff");
    await until(async () => ((await ok("logs", "stiff")) === "" ? undefined : true));
    await ok("pause", "stiff");
    for (const [args, text] of [
      [["pause", "stiff"], `Container ${id} is already paused`],
      [["exec", "stiff", "true"], "Container stiff is paused, unpause the container before exec"],
      [["attach", "stiff"], "cannot attach to a paused container, unpause it first"],
      [["start", "stiff"], "cannot start a paused container, try unpause instead"],
      [["rm", "stiff"], "container is paused and must be unpaused first"],
    ] as const) {
      const result = await docker(...args);
      assert.notEqual(result.code, 0, args.join(" "));
      assert.ok(
        result.errorText.toLowerCase().includes(text.toLowerCase()),
        `${args.join(" ")}: ${result.errorText}`,
      );
    }
    assert.equal((await api.call("POST", `/containers/${id}/pause`)).status, 409);
    assert.ok((await ok("top", "stiff")).includes("sh -c"));
    await ok("rm", "--force", "stiff");
  });

  test("of a container that is not there, does not run, or is not paused", async () => {
    const id = await ok("create", "--name", "idle", "busybox", "true");
    assert.equal((await api.call("POST", "/containers/nosuch/pause")).status, 404);
    const refused = await api.call("POST", "/containers/idle/pause");
    assert.deepEqual([refused.status, refused.json()], [409, { message: `container ${id} is not running` }]);
    const unpaused = await api.call("POST", "/containers/idle/unpause");
    assert.deepEqual([unpaused.status, unpaused.json()], [500, { message: `Container ${id} is not paused` }]);
    await ok("rm", "idle");
  });

  test("does not keep a container from being stopped, killed or removed", async () => {
    const trap = "trap 'exit 3' TERM; echo up; while sleep 0.05; do :; done";
    const id = await ok("run", "-d", "--name", "stoppable", "busybox", "sh", "-c", trap);
    await until(async () => ((await ok("logs", "stoppable")) === "up" ? true : undefined));
    await ok("pause", "stoppable");
    await ok("stop", "--time", "60", "stoppable");
    assert.equal(
      await inspect("stoppable", "{{.State.Status}} {{.State.ExitCode}} {{.State.Paused}}"),
      "exited 3 false",
    );
    const ends = (await actionsOf(id)).filter((action) =>
      ["kill", "unpause", "die", "stop"].includes(action),
    );
    assert.deepEqual(ends, ["kill", "unpause", "die", "stop"]);
    await ok("start", "stoppable");
    await ok("pause", "stoppable");
    await ok("kill", "stoppable");
    assert.equal(await inspect("stoppable", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    await ok("start", "stoppable");
    await ok("pause", "stoppable");
    await ok("rm", "--force", "stoppable");
  });

  test("holds on through a signal that is not to end the container", async () => {
    const script = "trap 'echo got' USR1; echo up; while sleep 0.02; do :; done";
    await ok("run", "-d", "--name", "deaf", "--stop-signal", "TERM", "busybox", "sh", "-c", script);
    await until(async () => ((await ok("logs", "deaf")) === "up" ? true : undefined));
    await ok("pause", "deaf");
    await ok("kill", "--signal", "USR1", "deaf");
    assert.equal(await inspect("deaf", "{{.State.Status}}"), "paused");
    assert.equal(await ok("logs", "deaf"), "up");
    await ok("unpause", "deaf");
    await until(async () => ((await ok("logs", "deaf")) === "up\ngot" ? true : undefined));
    await ok("rm", "--force", "deaf");
  });
});

describe("docker rename", () => {
  test("gives a container another name, which its old one is free for again", async () => {
    const id = await counting("before");
    await ok("rename", "before", "after");
    assert.equal(await inspect(id, "{{.Name}}"), "/after");
    assert.notEqual((await docker("inspect", "before")).code, 0);
    assert.equal(await ok("ps", "--filter", "name=after", "--format", "{{.Names}}"), "after");
    const told = (await eventsOf(id)).at(-1);
    const { oldName, name } = told?.Actor.Attributes ?? {};
    assert.deepEqual([told?.Action, oldName, name], ["rename", "/before", "after"]);
    await ok("create", "--name", "before", "busybox", "true");
    await ok("rm", "--force", "before", "after");
  });

  test("refuses names that are taken, malformed, empty or no change", async () => {
    const one = await ok("create", "--name", "one", "busybox", "true");
    await ok("create", "--name", "two", "busybox", "true");
    for (const [name, status, message] of [
      [
        "one",
        409,
        `Error when allocating new name: Conflict. The container name "/one" is already in use by container "${one}". ` +
          "You have to remove (or rename) that container to be able to reuse that name.",
      ],
      [
        "b@d",
        400,
        "Error when allocating new name: Invalid container name (/b@d), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
      ],
      ["", 400, "Neither old nor new names may be empty"],
      ["two", 400, "Renaming a container with the same name as its current name"],
    ] as const) {
      const answer = await api.call("POST", `/containers/two/rename?name=${encodeURIComponent(name)}`);
      assert.deepEqual([answer.status, answer.json()], [status, { message }]);
    }
    assert.equal((await api.call("POST", "/containers/nosuch/rename?name=x1")).status, 404);
    await ok("rm", "one", "two");
  });
});

describe("docker update", () => {
  const cgroup = (container: string, ...files: string[]) => ok("exec", container, "cat", ...files);

  test("changes the limits of a running container at once, and what inspect says", {
    skip: onlyOn("local", "the size of a task that runs is fixed"),
  }, async () => {
    const id = await ok("run", "-d", "--name", "limited", "--memory", "64m", "busybox", "sleep", "1000");
    const flags = "--memory 96m --memory-swap 128m --cpus 0.5 --pids-limit 30 --cpu-shares 512".split(" ");
    await ok("update", ...flags, "limited");
    const { HostConfig: now } = JSON.parse(await inspect("limited", "{{json .}}")) as {
      HostConfig: Record<string, unknown>;
    };
    assert.deepEqual(
      [now["Memory"], now["MemorySwap"], now["NanoCpus"], now["PidsLimit"], now["CpuShares"]],
      [96 << 20, 128 << 20, 500_000_000, 30, 512],
    );
    const read = await cgroup(
      "limited",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes",
      "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
      "/sys/fs/cgroup/pids/pids.max",
    ).catch(() =>
      cgroup("limited", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/pids.max"),
    );
    const [memory, quota, pids] = read.split("\n");
    assert.equal(memory, String(96 << 20));
    assert.match(quota ?? "", /^50000/);
    assert.equal(pids, "30");
    assert.equal((await actionsOf(id)).filter((action) => action === "update").length, 1);
    await ok("update", "--pids-limit", "-1", "limited");
    const unlimited = await cgroup("limited", "/sys/fs/cgroup/pids/pids.max").catch(() =>
      cgroup("limited", "/sys/fs/cgroup/pids.max"),
    );
    assert.equal(unlimited, "max");
    await ok("rm", "--force", "limited");
  });

  test("of limits of a running container is refused by name where its size is fixed", {
    skip: notOn("local", "it changes them at once"),
  }, async () => {
    const id = await ok("run", "-d", "--name", "fixed", "--memory", "1g", "busybox", "sleep", "1000");
    const answer = await api.call("POST", "/containers/fixed/update", { Memory: 2 ** 29 });
    assert.deepEqual(
      [answer.status, answer.json()],
      [
        501,
        {
          message: `Cannot update container ${id}: the ${backendUnderTest()} backend cannot change the limits of a running container`,
        },
      ],
    );
    assert.equal(await inspect("fixed", "{{.HostConfig.Memory}}"), String(2 ** 30));
    await ok("update", "--restart", "no", "fixed");
    await ok("rm", "--force", "fixed");
  });

  test("of a container that does not run counts from its next start", {
    skip: onlyOn("local", "Fargate limits no number of processes"),
  }, async () => {
    await ok(
      ...["create", "--name=later", "busybox"],
      ...["sh", "-c", "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null"],
    );
    await ok("update", "--pids-limit", "17", "--restart", "no", "later");
    await docker("start", "--attach", "later");
    assert.equal(await ok("logs", "later"), "17");
    await ok("rm", "later");
  });

  test("refuses what cannot be, and changes nothing", async () => {
    const id = await ok(
      ...["run", "-d", "--rm", "--name=strict", "--memory=64m", "--cpus=1", "busybox", "sleep", "1000"],
    );
    for (const [body, status, message] of [
      [{ Memory: 1 }, 400, "Minimum memory limit allowed is 6MB"],
      [{ CpusetCpus: "two" }, 400, "Invalid value two for cpuset cpus: invalid format: two"],
      [
        { Memory: 1 << 30 },
        409,
        `Cannot update container ${id}: Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time`,
      ],
      [
        { CpuQuota: 20_000 },
        409,
        `Cannot update container ${id}: Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set`,
      ],
      [
        { RestartPolicy: { Name: "always" } },
        409,
        `Cannot update container ${id}: Restart policy cannot be updated because AutoRemove is enabled for the container`,
      ],
      [
        { RestartPolicy: { Name: "sometimes" } },
        400,
        "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
      ],
    ] as const) {
      const answer = await api.call("POST", "/containers/strict/update", body);
      assert.deepEqual([answer.status, answer.json()], [status, { message }]);
    }
    assert.equal(
      await inspect("strict", "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}"),
      `${64 << 20} no`,
    );
    const older = await callApi(daemon.socket, "POST", "/v1.41/containers/strict/update", {
      body: { KernelMemory: 64 << 20 },
    });
    const discarded =
      "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.";
    assert.deepEqual([older.status, older.json()], [200, { Warnings: [discarded] }]);
    const fine = await api.call("POST", "/containers/strict/update", {});
    assertDescribed("post", "/containers/{id}/update", fine.status, fine.json());
    assert.equal((await api.call("POST", "/containers/nosuch/update", {})).status, 404);
    await ok("rm", "--force", "strict");
  });
});

describe("docker top", () => {
  test("lists the container's processes alone, as the machine's ps shows them", async () => {
    const id = await ok("run", "-d", "--name", "busy", "busybox", "sh", "-c", "sleep 4321; true");
    await until(async () => (/ sleep 4321$/m.test(await ok("top", "busy")) ? true : undefined));
    const answer = await api.call("GET", "/containers/busy/top");
    assertDescribed("get", "/containers/{id}/top", answer.status, answer.json());
    const { Titles, Processes } = answer.json() as { Titles: string[]; Processes: string[][] };
    assert.deepEqual(Titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert.deepEqual(
      Processes.map((row) => row.at(-1)),
      ["sh -c sleep 4321; true", "sleep 4321"],
    );
    assert.equal(Processes[0]?.[1], await inspect("busy", "{{.State.Pid}}"));
    assert.equal((await actionsOf(id)).at(-1), "top");
    await ok("rm", "--force", "busy");
  });

  test("takes arguments for ps, and says what ps says of wrong ones", async () => {
    await ok("run", "-d", "--name", "formatted", "busybox", "sleep", "4321");
    const columns = (await ok("top", "formatted", "-o", "pid,comm")).split("\n")[0];
    assert.match(columns ?? "", /^PID +COMMAND/);
    for (const [args, message] of [
      ["-o comm", "Couldn't find PID field in ps output"],
      ["ax -o uid=PID", 'specifying "uid=PID" is not allowed'],
    ] as const) {
      const answer = await api.call("GET", `/containers/formatted/top?ps_args=${encodeURIComponent(args)}`);
      assert.deepEqual([answer.status, answer.json()], [500, { message }]);
    }
    const odd = await api.call("GET", "/containers/formatted/top?ps_args=-Q");
    assert.equal(odd.status, 500);
    assert.match((odd.json() as { message: string }).message, /^ps: /);
    await ok("rm", "--force", "formatted");
  });

  test("of a container that does not run is refused", async () => {
    const id = await ok("create", "--name", "asleep", "busybox", "true");
    const refused = await api.call("GET", "/containers/asleep/top");
    assert.deepEqual([refused.status, refused.json()], [409, { message: `container ${id} is not running` }]);
    await ok("rm", "asleep");
  });
});

describe("docker container prune", () => {
  test("removes what does not run and tells the space it took", async () => {
    const running = await counting("survivor");
    const ended = await ok(
      ...["run", "-d", "--name=ended", "busybox", "sh", "-c", "head -c 5000 /dev/zero > /file"],
    );
    const made = await ok("create", "--name", "made", "busybox", "true");
    await ok("wait", "ended");
    const answer = await api.call("POST", "/containers/prune");
    assertDescribed("post", "/containers/prune", answer.status, answer.json());
    const report = answer.json() as { ContainersDeleted: string[]; SpaceReclaimed: number };
    assert.deepEqual(new Set(report.ContainersDeleted), new Set([ended, made]));
    assert.equal(report.SpaceReclaimed, 5000);
    assert.equal(await ok("ps", "--all", "--quiet", "--no-trunc"), running);
    assert.deepEqual((await api.call("POST", "/containers/prune")).json(), {
      ContainersDeleted: null,
      SpaceReclaimed: 0,
    });
    await ok("rm", "--force", "survivor");
  });

  test("spares what its filters do not name", async () => {
    const kept = await ok("create", "--label", "keep", "busybox", "true");
    const staged = await ok("create", "--label", "stage=test", "busybox", "true");
    await ok("container", "prune", "--force", "--filter", "until=1h");
    await ok("container", "prune", "--force", "--filter", "label=stage=other");
    const listed = async () => (await ok("ps", "--all", "--quiet", "--no-trunc")).split("\n").toSorted();
    assert.deepEqual(await listed(), [kept, staged].toSorted());
    const text = await ok(
      ...["container", "prune", "--force", "--filter=label!=keep", "--filter=until=2099-01-01"],
    );
    assert.match(text, /Total reclaimed space: 0B$/);
    assert.deepEqual(await listed(), [kept]);
    const wrong = await api.call("POST", `/containers/prune?filters=${encodeURIComponent('{"name":["x"]}')}`);
    assert.deepEqual([wrong.status, wrong.json()], [400, { message: "invalid filter 'name'" }]);
    await ok("rm", kept);
  });
});

describe("sizes of containers", () => {
  test("are told when they are asked for: what was written, and that with the image", async () => {
    await ok(
      ...["run", "--name=writer", "busybox", "sh", "-c", "head -c 123456 /dev/zero > /file; ln /file /same"],
    );
    const image = Number(await inspect("busybox", "{{.Size}}"));
    assert.equal(
      await ok("inspect", "--size", "--format", "{{.SizeRw}} {{.SizeRootFs}}", "writer"),
      `123456 ${image + 123456}`,
    );
    assert.match(await ok("ps", "--all", "--size", "--format", "{{.Size}}"), /^123kB \(virtual /);
    const listed = (await api.call("GET", "/containers/json?all=1")).json() as Record<string, unknown>[];
    assert.equal(listed[0]?.["SizeRw"], undefined);
    const sized = await api.call("GET", "/containers/json?all=1&size=1");
    assertDescribed("get", "/containers/json", sized.status, sized.json());
    await ok("rm", "writer");
  });
});
