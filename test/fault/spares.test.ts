/**
 * kill -9 around a container that is prepared ahead: while it is, while it waits, and while it becomes somebody's.
 * Nothing is left of one that nobody has, and what somebody has is a container.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";

import { Daemon } from "../support/daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { type DaemonRole, findShim, processesBelow, processOf } from "../support/processes.ts";
import { preparedSpares, spareWaits, takenSpares, tellingOfSpares } from "../support/spares.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { containersOnDisk, untilOnly } from "../support/traces.ts";
import { untilTrue } from "../support/until.ts";
import { assertSound } from "./whole-life.ts";

const plain = ["--network", "none"];
/** Another shape: its first container takes no spare, and has none prepared. */
const other = [...plain, "--shm-size", "32m"];

/** Starts a daemon that dies in one of its processes once the file that this answers names its step. */
async function mortalDaemon(resources: AsyncDisposableStack): Promise<{ daemon: Daemon; armed: string }> {
  const armed = join(await mkdtemp(join(tmpdir(), "skl-fault-")), "step");
  resources.defer(() => rm(dirname(armed), { recursive: true }));
  const env = await testBuildEnv(armed);
  const daemon = resources.use(await Daemon.start({ args: tellingOfSpares, env }));
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  return { daemon, armed };
}

/** Asserts that the next backend has what is there, and that nothing is left once its containers are removed. */
async function assertGoesOn(daemon: Daemon): Promise<void> {
  await untilTrue(async () => (await daemon.docker("ps")).code === 0);
  await assertSound(daemon);
  const ids = containersOnDisk(daemon);
  if (ids.length > 0) {
    await daemon.ok("rm", "--force", ...ids);
  }
  for (const id of new Set([...ids, ...preparedSpares(daemon)])) {
    await untilOnly(daemon, id, []);
  }
  await untilTrue(() => processesBelow(`${daemon.stateDir}/containers/`).length === 0);
  assert.equal(await daemon.ok("run", "--rm", ...other, "busybox", "echo", "works"), "works");
}

describe("kill -9 of the backend while a spare", () => {
  for (const step of ["spares.prepare.before", "spares.prepare.after"]) {
    test(`is prepared, at ${step}`, async () => {
      await using resources = new AsyncDisposableStack();
      const { daemon, armed } = await mortalDaemon(resources);
      const victim = await processOf(daemon, "backend");
      await daemon.ok("run", "--rm", ...plain, "busybox", "true");
      await writeFile(armed, step);
      await daemon.docker("run", "--detach", "--name", "second", ...plain, "busybox", "sleep", "1000");
      await untilTrue(() => !existsSync(armed));
      await processOf(daemon, "backend", victim);
      await untilTrue(async () => (await daemon.docker("ps")).code === 0);
      assert.equal(await daemon.ok("inspect", "--format", "{{.State.Status}}", "second"), "running");
      await assertGoesOn(daemon);
    });
  }

  for (const step of ["spares.end.before", "spares.end.after"]) {
    test(`gives way to another, at ${step}`, async () => {
      await using resources = new AsyncDisposableStack();
      const { daemon, armed } = await mortalDaemon(resources);
      const victim = await processOf(daemon, "backend");
      await writeFile(armed, step);
      // Four wait at a time; on a slow machine the first may have gone before there is a fifth.
      for (let n = 1; existsSync(armed); n++) {
        await daemon.docker("run", "--rm", ...plain, "--shm-size", `${n >> 1}m`, "busybox", "true");
      }
      await processOf(daemon, "backend", victim);
      await assertGoesOn(daemon);
    });
  }

  for (const step of [
    ...["workloads.create.before", "workloads.create.after"],
    ...["workloads.launch.before", "workloads.launch.after"],
  ]) {
    test(`becomes a container, at ${step}`, async () => {
      await using resources = new AsyncDisposableStack();
      const { daemon, armed } = await mortalDaemon(resources);
      const victim = await processOf(daemon, "backend");
      const spare = await spareWaits(daemon, ...plain);
      await writeFile(armed, step);
      const run = ["run", "--detach", "--name", "third", ...plain, "busybox", "sleep", "1000"];
      const { code } = await daemon.docker(...run);
      assert.ok(takenSpares(daemon).includes(spare));
      await untilTrue(() => !existsSync(armed));
      await processOf(daemon, "backend", victim);
      await untilTrue(async () => (await daemon.docker("ps")).code === 0);
      if (step.startsWith("workloads.launch")) {
        assert.equal(code, 0, "the frontend asks the next backend");
        assert.equal(await daemon.ok("inspect", "--format", "{{.State.Status}}", spare), "running");
      } else {
        await untilOnly(daemon, spare, []);
      }
      await assertGoesOn(daemon);
    });
  }
});

describe("kill -9 while a spare waits", () => {
  for (const role of ["backend", "host"] satisfies DaemonRole[]) {
    test(`of the ${role}`, async () => {
      await using daemon = await Daemon.start({ args: tellingOfSpares });
      await daemon.ok("load", "--input", await busyboxArchiveFile());
      const created = await spareWaits(daemon, "--user", "app", ...plain);
      const id = await daemon.ok("create", "--user", "app", ...plain, "busybox", "echo", "started");
      assert.equal(id, created);
      const spare = await spareWaits(daemon, ...plain);
      const victim = await processOf(daemon, role);
      process.kill(victim, "SIGKILL");
      await processOf(daemon, role, victim);
      await untilOnly(daemon, spare, []);
      await untilOnly(daemon, id, [`${daemon.stateDir}/containers/${id}`]);
      await untilTrue(async () => (await daemon.docker("ps")).code === 0);
      assert.equal(await daemon.ok("run", "--rm", ...other, "busybox", "echo", "works"), "works");
      assert.equal(await daemon.ok("start", "--attach", id), "started");
      await daemon.ok("rm", id);
      await assertGoesOn(daemon);
    });
  }

  test("of its shim: the container that takes it has another", async () => {
    await using daemon = await Daemon.start({ args: tellingOfSpares });
    await daemon.ok("load", "--input", await busyboxArchiveFile());
    const spare = await spareWaits(daemon, ...plain);
    process.kill(findShim(daemon, spare) ?? assert.fail("no shim"), "SIGKILL");
    assert.equal(await daemon.ok("run", "--name", "third", ...plain, "busybox", "echo", "works"), "works");
    assert.equal(await daemon.ok("inspect", "--format", "{{.Id}}", "third"), spare);
    await daemon.ok("rm", "third");
    await untilOnly(daemon, spare, []);
  });

  test("of the whole daemon: the next one takes it away", async () => {
    await using daemon = await Daemon.start({ args: tellingOfSpares });
    await daemon.ok("load", "--input", await busyboxArchiveFile());
    const spare = await spareWaits(daemon, ...plain);
    const [backend, host] = [await processOf(daemon, "backend"), await processOf(daemon, "host")];
    for (const pid of [daemon.pid, host, backend]) {
      process.kill(pid, "SIGKILL");
    }
    await daemon.launch();
    await untilOnly(daemon, spare, []);
    await assertGoesOn(daemon);
  });
});
