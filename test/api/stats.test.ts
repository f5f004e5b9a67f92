/** `docker stats`: resource use, as one answer and as a stream. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { describe, test } from "node:test";

import { backendUnderTest, quickestNetwork } from "../support/backend-under-test.ts";
import { callApi } from "../support/call-api.ts";
import { assertDescribed } from "../support/swagger.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, ok } = withDaemon();
const api = (path: string) => callApi(daemon.socket, "GET", path);

interface Stats {
  readonly name: string;
  readonly id: string;
  readonly read: string;
  readonly preread: string;
  readonly cpu_stats: {
    readonly cpu_usage: { readonly total_usage: number };
    readonly system_cpu_usage?: number;
  };
  readonly precpu_stats: {
    readonly cpu_usage: { readonly total_usage: number };
    readonly system_cpu_usage?: number;
  };
  readonly memory_stats: { readonly usage?: number; readonly limit?: number };
  readonly pids_stats: { readonly current?: number; readonly limit?: number };
  readonly networks?: Record<string, { readonly rx_bytes: number; readonly tx_bytes: number }>;
}

/** The description leaves out Windows' fields, and calls none nullable that version 2 of control groups has not. */
const undescribed = { undescribed: ["storage_stats", "num_procs"] };

/**
 * Figures that a limit of 64 MiB and 9 processes leads to where containers run, and the name for their network: sizes of
 * tasks are rounded up, those of pods are not, both have an agent beside them, and their platform names the interface.
 */
const task = { memory: 512, pids: {}, isAlone: false, interface: "eth1" };
const machine = {
  local: { memory: 64, pids: { limit: 9 }, isAlone: true, interface: "eth0" },
  ecs: task,
  aca: task,
  kubernetes: { ...task, memory: 64, interface: "eth0" },
}[backendUnderTest()];

const busyLoop = ["busybox", "sh", "-c", "while :; do :; done"];

describe("resource use of a running container", () => {
  test("is one answer with the reading of a second before", async () => {
    const id = await ok("run", "-d", "--name=working", "--memory=64m", "--pids-limit=9", ...busyLoop);
    const asked = Date.now();
    const answer = await api("/v1.51/containers/working/stats?stream=false");
    assert.equal(answer.headers["content-type"], "application/json");
    assertDescribed("get", "/containers/{id}/stats", 200, answer.json(), undescribed);
    const stats = answer.json() as Stats;
    assert.deepEqual([stats.name, stats.id], ["/working", id]);
    assert.equal(stats.memory_stats.limit, machine.memory << 20);
    assert.ok((stats.memory_stats.usage ?? 0) > 0);
    const { current = 0, ...pids } = stats.pids_stats;
    assert.deepEqual(pids, machine.pids);
    assert.ok(machine.isAlone ? current === 1 : current > 1, String(current));
    assert.ok(stats.cpu_stats.cpu_usage.total_usage > stats.precpu_stats.cpu_usage.total_usage);
    assert.ok((stats.cpu_stats.system_cpu_usage ?? 0) > (stats.precpu_stats.system_cpu_usage ?? 0));
    const betweenMs = Date.parse(stats.read) - Date.parse(stats.preread);
    assert.ok(betweenMs >= 1_000, `${betweenMs} ms`);
    assert.ok(Date.parse(stats.preread) >= asked, "the reading before was made for this answer");
    assert.deepEqual(Object.keys(stats.networks ?? {}), [machine.interface]);
    await ok("rm", "--force", "working");
  });

  test("with one-shot is a single reading, which older clients do not know", async () => {
    await ok("run", "-d", "--name", "glanced", "--network", quickestNetwork(), ...busyLoop);
    const stats = (await api("/v1.51/containers/glanced/stats?stream=false&one-shot=true")).json() as Stats;
    assert.equal(stats.preread, "0001-01-01T00:00:00Z");
    assert.equal(stats.precpu_stats.cpu_usage.total_usage, 0);
    assert.ok(stats.cpu_stats.cpu_usage.total_usage > 0);
    // A task has its interface whatever its container wants.
    assert.deepEqual(Object.keys(stats.networks ?? {}), machine.isAlone ? [] : [machine.interface]);
    const older = (await api("/v1.40/containers/glanced/stats?stream=false&one-shot=true")).json() as Stats;
    assert.notEqual(older.preread, "0001-01-01T00:00:00Z");
    const both = await api("/v1.51/containers/glanced/stats?stream=true&one-shot=true");
    assert.deepEqual(
      [both.status, both.json()],
      [400, { message: "cannot have stream=true and one-shot=true" }],
    );
    await ok("rm", "--force", "glanced");
  });

  test("counts the bytes of its own network", async () => {
    await ok("run", "-d", "--name", "talking", "busybox", "sleep", "1000");
    const received = async () =>
      ((await api("/v1.51/containers/talking/stats?stream=0&one-shot=1")).json() as Stats).networks?.[
        machine.interface
      ]?.tx_bytes ?? 0;
    const before = await received();
    const gateway = await ok("inspect", "--format", "{{.NetworkSettings.Gateway}}", "talking");
    await daemon.docker("exec", "talking", "ping", "-c", "1", "-W", "1", "-s", "1400", gateway); // answered or not
    assert.ok((await received()) >= before + 1400);
    await ok("rm", "--force", "talking");
  });

  test("shows in the docker CLI", async () => {
    await ok("run", "-d", "--name", "shown", "--memory", "64m", ...busyLoop);
    const line = await ok(
      ...["stats", "--no-stream", "--format={{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.PIDs}}", "shown"],
    );
    const [, percent, limit, count] = /^shown ([\d.]+)% [\d.]+\w+ \/ ([\w.]+) (\d+)$/.exec(line) ?? [];
    assert.ok(Number(percent) > 0, line);
    assert.equal(limit, `${machine.memory}MiB`);
    assert.ok(machine.isAlone ? count === "1" : Number(count) > 1, line);
    await ok("rm", "--force", "shown");
  });
});

test("a container that does not run uses nothing", async () => {
  const id = await ok("create", "--name", "resting", "busybox", "true");
  const answer = await api("/v1.51/containers/resting/stats?stream=false");
  assertDescribed("get", "/containers/{id}/stats", 200, answer.json(), undescribed);
  const usage = { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 };
  const throttling = { periods: 0, throttled_periods: 0, throttled_time: 0 };
  assert.deepEqual(answer.json(), {
    name: "/resting",
    id,
    read: "0001-01-01T00:00:00Z",
    preread: "0001-01-01T00:00:00Z",
    pids_stats: {},
    blkio_stats: {
      io_service_bytes_recursive: null,
      io_serviced_recursive: null,
      io_queue_recursive: null,
      io_service_time_recursive: null,
      io_wait_time_recursive: null,
      io_merged_recursive: null,
      io_time_recursive: null,
      sectors_recursive: null,
    },
    num_procs: 0,
    storage_stats: {},
    cpu_stats: { cpu_usage: usage, throttling_data: throttling },
    precpu_stats: { cpu_usage: usage, throttling_data: throttling },
    memory_stats: {},
  });
  assert.equal((await api("/v1.51/containers/nosuch/stats")).status, 404);
  await ok("rm", "resting");
});

test("a stream follows the container through its end and its next start, until it is removed", async () => {
  await ok("run", "-d", "--name", "followed", "busybox", "sleep", "1000");
  const seen: Stats[] = [];
  const ended = Promise.withResolvers<void>();
  const outgoing = request({ socketPath: daemon.socket, path: "/v1.51/containers/followed/stats" });
  outgoing.on("response", (response) => {
    let text = "";
    response.on("data", (chunk: Buffer) => {
      const lines = (text + chunk.toString()).split("\n");
      text = lines.pop() ?? "";
      seen.push(...lines.map((line) => JSON.parse(line) as Stats));
    });
    response.on("end", ended.resolve);
    response.on("error", ended.reject);
  });
  outgoing.on("error", ended.reject);
  outgoing.end();
  const isRunning = (stats: Stats): boolean => (stats.memory_stats.usage ?? 0) > 0;
  await until(() => (seen.filter(isRunning).length >= 2 ? true : undefined));
  assert.equal(seen[0]?.precpu_stats.cpu_usage.total_usage, 0);
  assert.equal(seen[1]?.preread, seen[0]?.read);
  await ok("kill", "followed");
  await until(() => (seen.some((stats) => !isRunning(stats)) ? true : undefined));
  await ok("start", "followed");
  const before = seen.length;
  await until(() => (seen.slice(before).some(isRunning) ? true : undefined));
  await ok("rm", "--force", "followed");
  await ended.promise;
});

test("a client that leaves a stream is not served on", async () => {
  await ok("run", "-d", "--name", "left", "busybox", "sleep", "1000");
  const outgoing = request({ socketPath: daemon.socket, path: "/v1.51/containers/left/stats" });
  outgoing.on("error", () => undefined);
  const first = Promise.withResolvers<void>();
  outgoing.on("response", (response) =>
    response.once("data", () => first.resolve()).on("error", () => undefined),
  );
  outgoing.end();
  await first.promise;
  outgoing.destroy();
  // The shim may leave only once nobody asks it anything.
  await ok("rm", "--force", "left");
  assert.equal(await ok("ps", "--all", "--quiet"), "");
});
