/** kill -9 of the backend at each step of a claim: no task serves two containers, none is left, and every start happens. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import type { SeenTask } from "../simulators/aws/services/ecs/ecs.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { until, untilTrue } from "../support/until.ts";

/** Those of a claim, and of the preparation of the task that follows a claimed one. */
const steps = [
  "workloads.launch.before",
  "aws.TagResource.before",
  "aws.TagResource.after",
  "agents.claim.before",
  "agents.claim.after",
  "workloads.launch.after",
  "aws.RunTask.before",
  "aws.RunTask.after",
  // The start's record, that of its request, that of the claim, that of the agent, and what follows.
  ...[1, 2, 3, 4, 5, 6].map((count) => `state.commit.after:${count}`),
];

describe("a backend with prepared tasks that is killed", () => {
  let ecs: EcsDaemon;
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "skl-prepared-"));
    ecs = await EcsDaemon.start({
      ecs: { linger: "1s", agent_mode: "direct" },
      daemon: {
        args: ["--pool-mode=fixed", "--pool-images=busybox=1"],
        env: await testBuildEnv(join(directory, "step")),
      },
    });
    await ecs.daemon.ok("load", "--input", await busyboxArchiveFile());
  });
  after(async () => {
    await ecs.stop();
    await rm(directory, { recursive: true });
  });

  const running = (): readonly SeenTask[] =>
    ecs.aws.ecs.tasks.filter(({ state }) => state.desiredStatus === "RUNNING");
  const untilReady = () =>
    untilTrue(() => {
      const [task, ...others] = running();
      const told = ecs.daemon.output
        .split("\n")
        .filter((line) => line.includes("a task waits for a container"));
      return (
        task !== undefined && others.length === 0 && told.some((line) => line.includes(task.state.taskArn))
      );
    });
  const isUp = async (name: string): Promise<boolean> =>
    (await ecs.daemon.docker("inspect", "--format", "{{.State.Status}}", name)).text === "running";
  /** Starts a container, again where its start was lost with the backend. */
  const untilUp = (name: string): Promise<void> =>
    untilTrue(async () => (await isUp(name)) || (await ecs.daemon.docker("start", name)).code === 0);

  for (const step of steps) {
    it(`at ${step} starts two containers in two tasks, and leaves none`, async (t) => {
      await untilReady();
      const script = "echo ran; exec sleep 600";
      for (const name of ["one", "two"]) {
        await ecs.daemon.ok("create", "--name", name, "busybox", "sh", "-c", script);
      }
      const armed = join(directory, "step");
      await writeFile(armed, step);
      await Promise.all(["one", "two"].map(untilUp));
      await until(() => !existsSync(armed) || undefined); // The pool's own step comes behind.
      await Promise.all(["one", "two"].map(untilUp));
      for (const name of ["one", "two"]) {
        const { text } = await ecs.daemon.docker(
          "exec",
          name,
          "sh",
          "-c",
          `echo ${name} >> /mark; cat /mark`,
        );
        assert.equal(text, name, "its files are its own");
        assert.equal(await ecs.daemon.ok("logs", name), "ran", "its command has run once");
      }
      t.diagnostic(
        await ecs.daemon.ok("inspect", "--format", "{{range .StartPhases}}{{.Name}} {{end}}", "one", "two"),
      );
      await ecs.daemon.ok("rm", "--force", "one", "two");
      await untilTrue(() => running().length === 1);
    });
  }
});
