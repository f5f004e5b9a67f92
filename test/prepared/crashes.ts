/**
 * kill -9 of the backend at each step of a claim: no task serves two containers, none is left, and every start happens. Each
 * cloud's own test calls the suite: at a sample of the steps without SOCKERLESS_SOAK=1 (`npm run soak -- "prepared tasks"`).
 */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { beforeAndAfter } from "../support/kill-sweep.ts";
import { isSoak } from "../support/soak.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { until, untilTrue } from "../support/until.ts";
import { type PoolCloud, type PoolCloudKind, untilWaiting } from "./pool-cloud.ts";

export function killedClaims({ open, claimCall, runCalls, without }: PoolCloudKind): void {
  /** Those of a claim, and of the preparation of the task that follows a claimed one. */
  const steps = isSoak
    ? [
        "workloads.launch.before",
        ...beforeAndAfter(claimCall, "agents.claim"),
        "workloads.launch.after",
        ...beforeAndAfter(...runCalls),
        // The start's record, that of its request, that of the claim, that of the agent, and what follows.
        ...[1, 2, 3, 4, 5, 6].map((count) => `state.commit.after:${count}`),
      ]
    : [`${claimCall}.after`];

  describe("a backend with prepared tasks that is killed", { skip: without }, () => {
    let cloud: PoolCloud;
    let directory: string;

    before(async () => {
      directory = await mkdtemp(join(tmpdir(), "skl-prepared-"));
      const env = await testBuildEnv(join(directory, "step"));
      cloud = await open({ args: ["--pool-mode=fixed", "--pool-images=busybox=1"], env });
    });
    after(async () => {
      await cloud[Symbol.asyncDispose]();
      await rm(directory, { recursive: true });
    });

    const isUp = async (name: string): Promise<boolean> =>
      (await cloud.daemon.docker("inspect", "--format", "{{.State.Status}}", name)).text === "running";
    /** Starts a container, again where its start was lost with the backend. */
    const untilUp = (name: string): Promise<void> =>
      untilTrue(async () => (await isUp(name)) || (await cloud.daemon.docker("start", name)).code === 0);

    for (const step of steps) {
      it(`at ${step} starts two containers in two tasks, and leaves none`, async (t) => {
        await untilWaiting(cloud, 1);
        const script = "echo ran; exec sleep 600";
        for (const name of ["one", "two"]) {
          await cloud.daemon.ok("create", "--name", name, "busybox", "sh", "-c", script);
        }
        const armed = join(directory, "step");
        await writeFile(armed, step);
        await Promise.all(["one", "two"].map(untilUp));
        await until(() => !existsSync(armed) || undefined); // The pool's own step comes behind.
        await Promise.all(["one", "two"].map(untilUp));
        for (const name of ["one", "two"]) {
          const { text } = await cloud.daemon.docker(
            ...["exec", name, "sh", "-c", `echo ${name} >> /mark; cat /mark`],
          );
          assert.equal(text, name, "its files are its own");
          assert.equal(await cloud.daemon.ok("logs", name), "ran", "its command has run once");
        }
        t.diagnostic(
          await cloud.daemon.ok(
            ...["inspect", "--format", "{{range .StartPhases}}{{.Name}} {{end}}", "one", "two"],
          ),
        );
        await cloud.daemon.ok("rm", "--force", "one", "two");
        await untilTrue(async () => (await cloud.running()).length === 1);
      });
    }
  });
}
