/** Starts that users end while ECS brings their tasks up: nothing of them is left in ECS. */
import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";

import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { untilTrue } from "../support/until.ts";
import { inSoak } from "../support/soak.ts";

/** Far longer than a test: what ends before is ended. */
const longMs = 3_600_000;

describe("a start that a user ends while ECS brings its task up", () => {
  const ecs = duringTests(() => EcsDaemon.start({ ecs: { start_timeout: "20m" } }));
  afterEach(() => {
    ecs.aws.delays.provisioning = 0;
  });

  const create = (...flags: string[]) => ecs.daemon.ok("create", ...flags, "busybox", "sleep", "1000");
  const tasksOf = (id: string) =>
    ecs.aws.ecs.tasks.filter(({ state }) => JSON.stringify(state.overrides).includes(id));
  const hasEnded = (id: string) =>
    tasksOf(id).length > 0 && tasksOf(id).every(({ state }) => state.desiredStatus === "STOPPED");
  const statusOf = (id: string) => ecs.daemon.ok("inspect", "--format", "{{.State.Status}}", id);
  const errorOf = (id: string) => ecs.daemon.ok("inspect", "--format", "{{.State.Error}}", id);
  const isGone = async (id: string) =>
    (await ecs.daemon.ok("ps", "-aq", "--no-trunc")).includes(id) === false;

  it("is over with a removal by force while the task is provisioned", async () => {
    ecs.aws.delays.provisioning = longMs;
    const id = await create();
    const started = ecs.daemon.docker("start", id);
    await untilTrue(() => tasksOf(id).length === 1);
    await ecs.daemon.ok("rm", "--force", id);
    const { code, errorText } = await started;
    assert.equal(code, 1);
    assert.match(errorText, new RegExp(`container ${id} was removed while it was being started`));
    assert.ok(await isGone(id));
    await untilTrue(() => hasEnded(id));
  });

  it("is over with a stop while vCPU are waited for, and starts once it is asked for anew", async () => {
    const { quotas } = ecs.aws;
    const vcpus = quotas.fargateVcpus;
    quotas.fargateVcpus = 0;
    const id = await create("--restart", "unless-stopped");
    const started = ecs.daemon.docker("start", id);
    await untilTrue(async () => (await errorOf(id)).startsWith("waits to be started: "));
    await ecs.daemon.ok("stop", id);
    const { errorText } = await started;
    assert.match(errorText, new RegExp(`start of container ${id} was given up while it waited: .*vCPU`));
    assert.equal(await statusOf(id), "created");
    quotas.fargateVcpus = vcpus;
    await ecs.daemon.ok("start", id);
    assert.equal(tasksOf(id).length, 1);
    await ecs.daemon.ok("rm", "--force", id);
  });

  it("leaves no task behind where RunTask has not been answered yet", async () => {
    let isAsked = false;
    const answered = Promise.withResolvers<void>();
    ecs.aws.delays.provisioning = longMs;
    ecs.aws.faults.add({
      on: "ecs.RunTask",
      hold: answered.promise,
      where: () => {
        isAsked = true;
        return true;
      },
    });
    const id = await create();
    const started = ecs.daemon.docker("start", id);
    await untilTrue(() => isAsked);
    await ecs.daemon.ok("kill", id);
    assert.match(
      (await started).errorText,
      new RegExp(`container ${id} was killed while it was being started`),
    );
    assert.equal(tasksOf(id).length, 0); // The request is still on its way.
    answered.resolve();
    await untilTrue(() => hasEnded(id));
    await ecs.daemon.ok("rm", id);
  });

  it(
    "leaves no task behind whose RunTask was answered to nobody, and which ECS lists late",
    inSoak,
    async () => {
      let isAsked = false;
      ecs.aws.delays.provisioning = longMs;
      ecs.aws.switches.eventualConsistencyMs.ecs = 4_000;
      ecs.aws.faults.add({
        on: "ecs.RunTask",
        delayMs: 1_000,
        cut: "after",
        where: () => {
          isAsked = true;
          return true;
        },
      });
      const id = await create();
      const started = ecs.daemon.docker("start", id);
      await untilTrue(() => isAsked);
      await ecs.daemon.ok("rm", "--force", id);
      await started;
      await untilTrue(() => hasEnded(id));
      ecs.aws.switches.eventualConsistencyMs.ecs = 0;
    },
  );
});
