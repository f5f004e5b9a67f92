/** kill -9 of what is not a container: containers, ports, execs go on, and everything is known afterwards. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type DaemonRole, findProcess, isAlive, processOf } from "../support/processes.ts";
import { sampled } from "../support/soak.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { assertEnded, assertHearOn, Scene } from "./scene.ts";

const { daemon } = withDaemon();

const deaths: readonly (readonly DaemonRole[])[] = [
  ["frontend"],
  ["backend"],
  ["host"],
  ["backend", "frontend"],
];

describe("kill -9", () => {
  for (const victims of deaths) {
    test(
      `of ${victims.join(" and ")}: containers go on and nothing is lost`,
      sampled(victims.length === 1),
      async () => {
        await using scene = await Scene.set(daemon);
        const logBefore = await daemon.ok("logs", "printer");

        // Nothing is started again until the gate has been open for a while.
        process.kill(daemon.pid, "SIGSTOP");
        const pids = victims.map((role) => findProcess(daemon, role) ?? assert.fail(`no ${role}`));
        for (const pid of pids) {
          process.kill(pid, "SIGKILL");
        }
        await until(() => pids.every((pid) => !isAlive(pid)) || undefined);
        await scene.openGate();
        await scene.assertConnected();
        process.kill(daemon.pid, "SIGCONT");
        await Promise.all(victims.map((role, index) => processOf(daemon, role, pids[index])));
        await until(async () => (await daemon.docker("ps")).code === 0 || undefined);

        await assertHearOn(scene);
        const log = await scene.assertWhole(logBefore);
        await assertEnded(scene);
        scene.assertHeard(log, ["attach", "logs", "inside"]);
      },
    );
  }
});
