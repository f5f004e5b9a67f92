/**
 * kill -9 of the shim during a start, and of the backend between the begin of a container's process and its record: a run
 * that has begun is taken for one that has been, with its code where its shim has recorded one, and is not begun again; a
 * restart that was not made is.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { Daemon } from "../support/daemon.ts";
import { findShim, isAlive, processOf } from "../support/processes.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { untilOnly } from "../support/traces.ts";
import { untilTrue } from "../support/until.ts";
import { inSoak } from "../support/soak.ts";
import { scratchDirectory } from "../support/scratch.ts";

/** The last step of a start. */
const recordOfTheRun = "start.record.before";

const cases = [
  { what: "lost with its shim", script: "sleep 1000000", code: "255", waitsForEnd: false },
  { what: "recorded by its shim", script: "echo whole; exit 7", code: "7", waitsForEnd: true },
];

describe("a run that had begun, whose end is", () => {
  for (const { what, script, code, waitsForEnd } of cases) {
    test(what, async () => {
      const directory = scratchDirectory();
      const armed = join(directory, "step");
      const marks = join(directory, "marks");
      await using daemon = await Daemon.startWithBusybox({ env: await testBuildEnv(armed) });
      const id = await daemon.ok(
        ...["create", "--name=once", "--network=none", `--volume=${directory}:/told`],
        ...["busybox", "sh", "-c", `echo run >> /told/marks; ${script}`],
      );
      const backend = await processOf(daemon, "backend");
      await writeFile(armed, recordOfTheRun);
      process.kill(daemon.pid, "SIGSTOP"); // Nobody starts the next backend yet.
      const starting = daemon.docker("start", "once");
      await untilTrue(() => !isAlive(backend) && existsSync(marks));
      const record = join(daemon.stateDir, "containers", id, "exit.json");
      await untilTrue(() => !waitsForEnd || existsSync(record));
      const shim = findShim(daemon, id) ?? assert.fail("no shim");
      process.kill(shim, "SIGKILL");
      await untilTrue(() => !isAlive(shim));
      process.kill(daemon.pid, "SIGCONT");
      await starting;

      assert.equal(await daemon.ok("wait", "once"), code);
      assert.equal(await readFile(marks, "utf8"), "run\n");
      assert.equal(await daemon.ok("logs", "once"), waitsForEnd ? "whole" : "");
      await untilOnly(daemon, id, [`${daemon.stateDir}/containers/${id}`]);
      await daemon.ok("start", "once"); // A user may start it again.
      await untilTrue(async () => (await readFile(marks, "utf8")) === "run\nrun\n");
    });
  }
});

/** Prints a line for each time that it runs, and fails. */
const failing = ["sh", "-c", "echo run; exit 3"];

test("a process that had begun when its shim was killed in its start has run", async () => {
  const directory = scratchDirectory();
  const armed = join(directory, "step");
  await using daemon = await Daemon.startWithBusybox({ env: await testBuildEnv(armed) });
  await daemon.ok("create", "--name=begun", "--network=none", "busybox", "sleep", "1000000");
  await writeFile(armed, "shim.start.executing");
  await daemon.ok("start", "begun");
  assert.ok(!existsSync(armed), "the step was taken");
  assert.equal(await daemon.ok("wait", "begun"), "255");
});

test("a restart whose shim is killed is made again", inSoak, async () => {
  const directory = scratchDirectory();
  const armed = join(directory, "step");
  await using daemon = await Daemon.startWithBusybox({ env: await testBuildEnv(armed) });
  for (const step of ["shim.start.created", "shim.start.announced", "shim.start.executing"]) {
    await daemon.ok(
      ...["run", "-d", "--name=again", "--network=none", "--restart=always"],
      ...["busybox", ...failing],
    );
    await writeFile(armed, step);
    await untilTrue(() => !existsSync(armed));
    const runs = async (): Promise<number> => (await daemon.ok("logs", "again")).split("run").length;
    const before = await runs();
    await untilTrue(async () => (await runs()) > before);
    await daemon.ok("rm", "--force", "again");
  }
});
