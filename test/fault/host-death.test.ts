/** kill -9 of the host process while containers crash and are started again, and while clients ask for what it does. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { findProcess, processOf } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { isSoak } from "../support/soak.ts";

const policies = ["always", "unless-stopped", "on-failure"] as const;
const ofEachPolicy = isSoak ? 12 : 1;
/** The second is followed by a tenth of a second without a host process, the fifth by five. */
const kills = isSoak ? 6 : 2;

describe("kill -9 of the host process", () => {
  const { daemon } = withDaemon();

  /** Restart counts by name of those that restart or run. */
  const restartCounts = async (names: readonly string[]): Promise<ReadonlyMap<string, number>> => {
    const told = await daemon.ok(
      ...[
        "inspect",
        "--format={{.Name}} {{.State.Status}} {{.RestartCount}} {{.State.ExitCode}} {{.State.Error}}",
      ],
      ...names,
    );
    const lines = told.trim().split("\n");
    assert.deepEqual(
      lines.filter((line) => !/ (running|restarting) /.test(line)),
      [],
      "no policy is given up",
    );
    return new Map(lines.map((line) => [line.split(" ")[0] ?? "", Number(line.split(" ")[2])]));
  };

  test("ends no restart policy, and what clients ask for waits for the next one", async () => {
    await daemon.ok("run", "--name=ended", "busybox", "echo", "said");
    await daemon.ok("create", "--name=created", "busybox", "true");
    const names: string[] = [];
    for (const policy of policies) {
      for (let n = 0; n < ofEachPolicy; n++) {
        const name = `${policy}-${n}`;
        names.push(name);
        await daemon.ok(
          ...["run", "--detach", `--restart=${policy}`, `--name=${name}`, "busybox", "sh", "-c", "exit 3"],
        );
      }
    }
    for (let kill = 0; kill < kills; kill++) {
      const pid = findProcess(daemon, "host") ?? assert.fail("no host process");
      process.kill(pid, "SIGKILL");
      const answers = await Promise.all([
        daemon.ok("logs", "ended"),
        daemon.ok("run", "--rm", "busybox", "echo", "ran"),
        daemon.ok("start", "created"),
        daemon.ok("cp", "ended:/etc/hosts", "-"),
        daemon.ok("network", "create", `net-${kill}`),
      ]);
      assert.deepEqual(answers.slice(0, 2), ["said", "ran"]);
      await processOf(daemon, "host", pid);
      const before = await restartCounts(names);
      await until(async () => {
        const now = await restartCounts(names);
        return names.every((name) => (now.get(`/${name}`) ?? 0) > (before.get(`/${name}`) ?? 0)) || undefined;
      });
    }
    await daemon.ok("rm", "--force", ...names);
  });
});
