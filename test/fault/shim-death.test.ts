/** kill -9 of a shim: its container is over, everybody is told, and nothing of it is left on the machine. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { findShim, isAlive, processOf } from "../support/processes.ts";
import { interfacesOf, untilOnly } from "../support/traces.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { assertEnded, assertHearOn, assertNumbered, assertSentAway, assertToldExit, Scene } from "./scene.ts";
import { inSoak } from "../support/soak.ts";

const { daemon } = withDaemon();

test("a container whose shim dies has exited with 255 and a reason, clients are told, and it can be started again", async () => {
  {
    await using scene = await Scene.set(daemon);
    const id = await daemon.ok("inspect", "--format={{.Id}}", "printer");
    const before = await daemon.ok("logs", "printer");

    process.kill(findShim(daemon, id) ?? assert.fail("no shim"), "SIGKILL");

    await assertToldExit(scene, 255, 125);
    for (const [name, client] of Object.entries(scene.clients)) {
      assert.ok(name === "wait" || (await client.exitCode()) !== 0, name);
    }
    await scene.assertCut();
    const state = await daemon.ok(
      "inspect",
      "--format={{.State.Status}} {{.State.ExitCode}} {{.State.Error}}",
      "printer",
    );
    assert.match(state, /^(exited|dead) 255 .*agent was lost/);
    const log = await daemon.ok("logs", "printer");
    assert.ok(log.startsWith(before.trimEnd()), "its log is still there");
    assertNumbered(log, 0);
    scene.assertHeard(log, []);
    await untilOnly(daemon, id, [`${daemon.stateDir}/containers/${id}`]);

    await scene.openGate(); // the others go on
    assert.equal(await daemon.ok("wait", "gated"), "42");
    assert.match(await daemon.ok("exec", "inside", "docker", "ps", "--all"), /printer/);
    await daemon.ok("start", "printer");
    assert.equal(await daemon.ok("exec", "printer", "echo", "again"), "again");
    await daemon.ok("rm", "--force", "printer");
    await untilOnly(daemon, id, []);
  }
  await until(() => interfacesOf(daemon).length === 0 || undefined);
});

test("a shim that dies while no backend runs is found dead by the next one", inSoak, async () => {
  {
    await using scene = await Scene.set(daemon);
    const id = await daemon.ok("inspect", "--format={{.Id}}", "printer");
    const removed = await daemon.ok("run", "-d", "--rm", "busybox", "sleep", "1000000");
    const before = await daemon.ok("logs", "printer");
    const backend = await processOf(daemon, "backend");
    process.kill(daemon.pid, "SIGSTOP");
    process.kill(backend, "SIGKILL");
    for (const container of [id, removed]) {
      process.kill(findShim(daemon, container) ?? assert.fail("no shim"), "SIGKILL");
    }
    await scene.openGate();
    process.kill(daemon.pid, "SIGCONT");
    await processOf(daemon, "backend", backend);
    await until(async () => (await daemon.docker("ps")).code === 0 || undefined);
    await until(
      async () => (await daemon.ok("inspect", "-f", "{{.State.ExitCode}}", id)) === "255" || undefined,
    );
    await untilOnly(daemon, id, [`${daemon.stateDir}/containers/${id}`]);
    await untilOnly(daemon, removed, []);
    assert.deepEqual((await daemon.ok("ps", "--all", "--format={{.Names}}")).split("\n").toSorted(), [
      "gated",
      "inside",
      "printer",
    ]);
    await scene.assertCut();
    await assertSentAway(scene);
    await assertToldExit(scene, 255, 125);
    assert.notEqual(scene.attached.stderr, "", "it says why");
    const log = await daemon.ok("logs", "printer");
    assert.ok(log.startsWith(before.trimEnd()), "its log is still there");
    scene.assertHeard(log, []);
    assert.equal(await daemon.ok("wait", "gated"), "42");
  }
  await until(() => interfacesOf(daemon).length === 0 || undefined);
});

test("SIGTERM answers what is under way, and leaves containers running, and clients with their streams", async () => {
  await using scene = await Scene.set(daemon);
  const logBefore = await daemon.ok("logs", "printer");
  const gate = await mkdtemp(join(daemon.directory, "gate-"));
  await daemon.ok(
    ...["run", "-d", "--name=slow", `--volume=${gate}:/gate`, "busybox", "sh", "-c"],
    "trap 'echo asked; while test ! -e /gate/open; do usleep 5000; done; exit 5' TERM; while :; do usleep 5000; done",
  );
  const stopping = daemon.docker("stop", "-t", "60", "slow");
  await until(async () => (await daemon.ok("logs", "slow")) === "asked" || undefined);

  const down = daemon.shutDown(); // which fails if it waits for followers: they stay as long as they may
  await until(() => refusesConnections(daemon.socket));
  await writeFile(join(gate, "open"), "");
  const stopped = await stopping;
  assert.equal(stopped.text, "slow", stopped.errorText);
  await down;
  await assertHearOn(scene);

  await scene.openGate();
  await scene.assertConnected(); // without a daemon
  await daemon.launch();
  assert.equal(await daemon.ok("inspect", "--format={{.State.ExitCode}}", "slow"), "5");
  await daemon.ok("rm", "slow");
  const log = await scene.assertWhole(logBefore);
  await assertEnded(scene);
  scene.assertHeard(log, ["attach", "logs", "inside"]);
});

test("kill -9 of the supervisor ends backend, frontend and host, and no container", async () => {
  await using scene = await Scene.set(daemon);
  const logBefore = await daemon.ok("logs", "printer");
  const pids = await Promise.all(
    (["backend", "frontend", "host"] as const).map((role) => processOf(daemon, role)),
  );
  process.kill(daemon.pid, "SIGKILL");
  await until(() => pids.every((pid) => !isAlive(pid)) || undefined);
  await assertHearOn(scene);
  await scene.openGate();
  await scene.assertConnected();
  await daemon.launch();
  const log = await scene.assertWhole(logBefore);
  await assertEnded(scene);
  scene.assertHeard(log, ["attach", "logs", "inside"]);
});

/** True if nobody listens on a socket; undefined while somebody does. */
async function refusesConnections(path: string): Promise<true | undefined> {
  const connection = connect(path);
  try {
    await once(connection, "connect");
    return undefined;
  } catch {
    return true;
  } finally {
    connection.destroy();
  }
}
