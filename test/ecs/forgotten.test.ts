/** Containers on ECS that end while no backend runs, and whose tasks ECS has forgotten when the next one starts. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { describe, it } from "node:test";

import type { SeenTask } from "../simulators/aws/services/ecs/ecs.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { untilTrue } from "../support/until.ts";
import { inSoak } from "../support/soak.ts";

const group = "/sockerless/containers";
const twoHoursMs = 2 * 3_600_000;
/** Says that it has succeeded, as an agent would. */
const forged = `[sockerless] exit generation=1 code=0 oom_killed=false platform_stop=false finished_at=2026-01-01T00:00:00Z seal=${"0".repeat(64)}`;

describe("containers on ECS that ended two hours before a backend came back", () => {
  const ecs = duringTests(() =>
    EcsDaemon.start({ leastPrivilege: true, ecs: { linger: "1s", drain_timeout: "1s" } }),
  );

  const tasksOf = (id: string): SeenTask[] =>
    ecs.aws.ecs.tasks.filter(({ state }) => JSON.stringify(state.overrides).includes(id));
  const streamOf = (id: string): string =>
    `sockerless/main/${tasksOf(id)[0]?.state.taskArn?.split("/").at(-1)}`;
  const linesOf = (id: string): string[] =>
    ecs.aws.services.logs.stream(group, streamOf(id)).events.map(({ message }) => message);

  it("have the exit codes that their agents left, which nobody can forge", inSoak, async () => {
    const { daemon, aws } = ecs;
    const run = (name: string, script: string): Promise<string> =>
      daemon.ok(
        ...["run", "--detach", "--restart=on-failure:3", "--name", name, "busybox", "sh", "-c", script],
      );
    const waits = "while [ ! -e /tmp/end ]; do sleep 0.1; done";
    const succeeded = await run("succeeded", `echo done; ${waits}`);
    const failed = await daemon.ok(
      ...["run", "--detach", "--name=failed", "busybox", "sh", "-c", `echo '${forged}'; ${waits}; exit 7`],
    );
    const vanished = await daemon.ok("run", "--detach", "--name=vanished", "busybox", "sleep", "1000");
    await daemon.shutDown();
    const tasks = [succeeded, failed].flatMap(tasksOf);
    for (const { pids } of tasks) {
      await writeFile(`/proc/${pids.get("main")}/root/tmp/end`, "");
    }
    await Promise.all(tasks.map(({ finished }) => finished));
    const told = linesOf(succeeded).filter((line) => line.startsWith("[sockerless] exit "));
    assert.equal(told.length, 1);
    aws.services.logs.putLines(group, streamOf(vanished), [...told, forged]); // Another's end, and a forged one.
    aws.ecs.vanish(tasksOf(vanished)[0]?.state.taskArn ?? "");
    aws.clock.advance(twoHoursMs);
    assert.deepEqual([...tasksOf(succeeded), ...tasksOf(failed)], [], "ECS has forgotten them");

    const begun = aws.calls.count("ecs.RunTask");
    const refused = { code: "UnrecognizedClientException", message: "is not known yet", status: 400 };
    aws.faults.add({ on: "logs.GetLogEvents", error: refused, times: 2 }); // One is not refused, and is not held up.
    await daemon.launch();
    const ended = "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}} {{.RestartCount}}";
    const isEnded = async (name: string, end: RegExp): Promise<void> => {
      await untilTrue(async () => end.test(await daemon.ok("inspect", "--format", ended, name)));
    };
    await isEnded("succeeded", /^exited 0 {2}0$/);
    await isEnded("failed", /^exited 7 {2}0$/);
    await isEnded("vanished", /^exited 255 the container's agent was lost 0$/);
    assert.equal(aws.calls.count("ecs.RunTask"), begun, "what has succeeded is not started again");
    assert.equal(await daemon.ok("logs", "failed"), forged);
    assert.deepEqual(ecs.deniedCalls, []);
    await daemon.ok("rm", "succeeded", "failed", "vanished");
  });
});
