/** kill -9 of a shim: its container is over, everybody is told, and nothing of it is left on the machine. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { once } from "node:events";
import { test } from "node:test";
import { FollowingClient } from "../support/following-client.ts";
import { findShim, isAlive, processOf } from "../support/processes.ts";
import { interfacesOf, untilOnly } from "../support/traces.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const setting = withDaemon();

test("a container whose shim dies has exited with 255 and a reason, clients are told, and it can be started again", async () => {
  const { daemon } = setting;
  const script = "nc -ll -p 7 -e cat & n=0; while :; do echo line $n; n=$((n + 1)); usleep 5000; done";
  const id = await daemon.ok(
    "run",
    "-d",
    "--name=orphan",
    "--publish=127.0.0.1::7",
    "busybox",
    "sh",
    "-c",
    script,
  );
  const clients = [
    new FollowingClient(daemon, "attach", "orphan"),
    new FollowingClient(daemon, "logs", "--follow", "orphan"),
    new FollowingClient(daemon, "exec", "orphan", "sh", "-c", "while :; do echo exec; usleep 5000; done"),
  ];
  const waiting = new FollowingClient(daemon, "wait", "orphan");
  await Promise.all(clients.map((client) => client.receives()));
  const before = await daemon.ok("logs", "orphan");

  process.kill(findShim(daemon, id) ?? assert.fail("no shim"), "SIGKILL");

  await waiting.exitCode();
  assert.equal(waiting.stdout, "255\n");
  const [attach, logs, exec] = await Promise.all(clients.map((client) => client.exitCode()));
  assert.notEqual(attach, 0, "attach");
  assert.notEqual(exec, 0, "exec");
  assert.notEqual(logs, 0, "logs");
  const state = await daemon.ok(
    "inspect",
    "--format={{.State.Status}} {{.State.ExitCode}} {{.State.Error}}",
    "orphan",
  );
  assert.match(state, /^(exited|dead) 255 .*agent was lost/);
  assert.ok((await daemon.ok("logs", "orphan")).startsWith(before), "its log is still there");
  await untilOnly(daemon, id, [`${daemon.stateDir}/containers/${id}`]);
  assert.deepEqual(interfacesOf(daemon), []);

  await daemon.ok("start", "orphan");
  assert.equal(await daemon.ok("exec", "orphan", "echo", "again"), "again");
  await daemon.ok("rm", "--force", "orphan");
  await untilOnly(daemon, id, []);
});

test("a shim that dies while no backend runs is found dead by the next one", async () => {
  const { daemon } = setting;
  const id = await daemon.ok("run", "-d", "--name=unseen", "busybox", "sleep", "1000000");
  const removed = await daemon.ok("run", "-d", "--rm", "busybox", "sleep", "1000000");
  const backend = await processOf(daemon, "backend");
  process.kill(daemon.pid, "SIGSTOP");
  process.kill(backend, "SIGKILL");
  for (const container of [id, removed]) {
    process.kill(findShim(daemon, container) ?? assert.fail("no shim"), "SIGKILL");
  }
  process.kill(daemon.pid, "SIGCONT");
  await processOf(daemon, "backend", backend);
  await until(async () => (await daemon.docker("ps")).code === 0 || undefined);
  await until(
    async () => (await daemon.ok("inspect", "-f", "{{.State.ExitCode}}", id)) === "255" || undefined,
  );
  await untilOnly(daemon, id, [`${daemon.stateDir}/containers/${id}`]);
  await untilOnly(daemon, removed, []);
  assert.equal(await daemon.ok("ps", "--all", "--quiet", "--no-trunc"), id);
  await daemon.ok("rm", "unseen");
  assert.deepEqual(interfacesOf(daemon), []);
});

test("SIGTERM answers what is under way, sends followers away with an error, and leaves containers running", async () => {
  const { daemon } = setting;
  const script = "nc -ll -p 7 -e cat & n=0; while :; do echo line $n; n=$((n + 1)); usleep 5000; done";
  await daemon.ok("run", "-d", "--name=stays", "--publish=127.0.0.1::7", "busybox", "sh", "-c", script);
  const following = new FollowingClient(daemon, "logs", "--follow", "stays");
  const waiting = new FollowingClient(daemon, "wait", "stays");
  await following.receives();
  const port = Number((await daemon.ok("port", "stays", "7")).split(":").at(-1));
  await daemon.shutDown(); // which fails if it waits for followers: they stay as long as they may
  assert.notEqual(await following.exitCode(), 0);
  assert.notEqual(await waiting.exitCode(), 0);

  const connection = connect(port, "127.0.0.1");
  connection.write("there\n");
  assert.equal(String(await once(connection, "data")), "there\n", "the port is served without a daemon");
  connection.destroy();
  await daemon.launch();
  const lines = (await daemon.ok("logs", "stays")).split("\n");
  assert.deepEqual(
    lines,
    lines.map((_, index) => `line ${index}`),
  );
  await daemon.ok("rm", "--force", "stays");
});

test("kill -9 of the supervisor ends backend, frontend and host, and no container", async () => {
  const { daemon } = setting;
  await daemon.ok("run", "-d", "--name=stays", "busybox", "sleep", "1000000");
  const pids = await Promise.all(
    (["backend", "frontend", "host"] as const).map((role) => processOf(daemon, role)),
  );
  process.kill(daemon.pid, "SIGKILL");
  await until(() => pids.every((pid) => !isAlive(pid)) || undefined);
  await daemon.launch();
  assert.equal(await daemon.ok("exec", "stays", "echo", "there"), "there");
  await daemon.ok("rm", "--force", "stays");
});
