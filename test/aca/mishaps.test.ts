/** Starts that a moment's trouble of Azure does not fail, that happen once whatever becomes of answers, and ends by others. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";

import type { Fault } from "../simulators/common/faults.ts";
import { AcaDaemon } from "../support/aca-daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { inSoak } from "../support/soak.ts";
import { untilTrue } from "../support/until.ts";

describe("containers as jobs of an Azure that", () => {
  const aca = duringTests(() =>
    AcaDaemon.start({ aca: { linger: "0s", drain_timeout: "2s", replica_timeout: "10m" } }),
  );
  beforeEach(() => aca.azure.calls.clear());
  afterEach(() => aca.azure.faults.clear());

  const ok = (...args: string[]): Promise<string> => aca.daemon.ok(...args);
  const runs = (word: string): Promise<string> => ok("run", "--rm", "busybox", "echo", word);
  const calls = (operation: string): number => aca.azure.calls.count(`app.${operation}`);
  const jobOf = (id: string): string => `sk-${id.slice(0, 12)}`;
  const started = async (
    ...script: string[]
  ): Promise<{ readonly id: string; readonly execution: string }> => {
    const id = await ok("run", "--detach", "busybox", ...script);
    const execution = aca.azure.app.executions.find(({ job }) => job === jobOf(id));
    assert.ok(execution);
    return { id, execution: execution.name };
  };

  /** Runs a container, of whose starts' calls one meets a fault. */
  const runWith = async (fault: Omit<Fault, "where">): Promise<string> => {
    const id = await ok("create", "busybox", "echo", "ran");
    aca.azure.faults.add({ ...fault, where: (input) => JSON.stringify(input).includes(jobOf(id)) });
    assert.equal(await ok("start", "--attach", id), "ran");
    return id;
  };

  it("loses answers, before or after it has done its work, runs them once", async () => {
    const faults = ["Jobs_CreateOrUpdate", "Jobs_Start"].flatMap((operation) =>
      (["before", "after"] as const).map((cut) => ({ operation, cut })),
    );
    await Promise.all(
      faults.map(async ({ operation, cut }) => {
        const id = await runWith({ on: `app.${operation}`, cut });
        const starts = aca.azure.calls
          .all("app.Jobs_Start")
          .filter(({ input }) => JSON.stringify(input).includes(jobOf(id)));
        const isAgain = operation === "Jobs_Start" && cut === "before";
        assert.equal(starts.length, isAgain ? 2 : 1, `${operation} ${cut}`);
        await ok("rm", id);
      }),
    );
  });

  it(
    "fails replicas before their containers run puts another job, which runs once, and keeps none",
    inSoak,
    async () => {
      const id = await ok("create", "busybox", "echo", "ran");
      aca.azure.app.failReplicas(jobOf(id));
      assert.equal(await ok("start", "--attach", id), "ran");
      assert.equal(calls("Jobs_Start"), 2);
      const args = ["events", "--since", "0", "--until", "0s", "--filter", `container=${id}`];
      const told = await ok(...args, "--filter", "event=start_waits");
      assert.match(told, /try 2 of 3 in 2 s: the job's execution has failed/);
      await ok("rm", id);
      await untilTrue(() => !aca.azure.app.jobs.names().some((job) => job.startsWith(jobOf(id))));
    },
  );

  it(
    "has given a role only just, is throttled or at another operation lets them start a little later",
    inSoak,
    async () => {
      const errors = [
        { code: "AuthorizationFailed", status: 403 },
        { code: "TooManyRequests", status: 429 },
        { code: "Conflict", status: 409 },
        { code: "ManagedEnvironmentNotReadyForAppCreation", status: 400 },
        { code: "NobodyHasSeenThisCode", status: 400 },
        { code: "ServiceUnavailable", status: 503 },
      ];
      const ran = errors.map((error) => runWith({ on: "app.Jobs_CreateOrUpdate", error }));
      await ok("rm", ...(await Promise.all(ran)));
    },
  );

  it("refuses a start for a moment starts the job that it has, and is left no other", async () => {
    const errors = [
      { code: "ResourceNotFound", status: 404 },
      { code: "AuthorizationFailed", status: 403 },
      { code: "Conflict", status: 409 },
    ];
    const ran = await Promise.all(errors.map((error) => runWith({ on: "app.Jobs_Start", error })));
    for (const id of ran) {
      const made = aca.azure.calls
        .all("app.Jobs_CreateOrUpdate")
        .filter(({ input }) => JSON.stringify(input).includes(jobOf(id)));
      assert.equal(made.length, 1);
    }
    await ok("rm", ...ran);
  });

  it("refuses a start for good is left no job", inSoak, async () => {
    const id = await ok("create", "busybox", "true");
    aca.azure.faults.add({ on: "app.Jobs_Start", error: { code: "InvalidRequest", message: "not today" } });
    const { code, errorText } = await aca.daemon.docker("start", id);
    assert.equal(calls("Jobs_Start"), 1);
    assert.equal(code, 1);
    assert.match(errorText, /not today/);
    await untilTrue(() => !aca.azure.app.jobs.names().includes(jobOf(id)));
    await ok("rm", id);
  });

  it("takes its time, and shows what it has made later", async () => {
    Object.assign(aca.azure.delays, { writeJob: 1_500, start: 500, deleteJob: 500 });
    aca.azure.switches.eventualConsistencyMs = 1_500;
    try {
      assert.equal(await runs("late"), "late");
      assert.equal(calls("Jobs_Start"), 1);
    } finally {
      Object.assign(aca.azure.delays, { writeJob: 0, start: 0, deleteJob: 0 });
      aca.azure.switches.eventualConsistencyMs = 0;
    }
  });

  it(
    "stops an execution on an administrator's behalf never ends them with 0, and says so",
    inSoak,
    async () => {
      const { id, execution } = await started(
        "sh",
        "-c",
        "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done",
      );
      await untilTrue(async () => (await ok("logs", id)) === "up");
      await aca.stopInAzure(execution);
      assert.equal(await ok("wait", id), "255");
      await untilTrue(async () =>
        /stopped in Azure/.test(await ok("inspect", "--format", "{{.State.Error}}", id)),
      );
      await ok("rm", id);
    },
  );

  it("cuts a replica off at its timeout says that it did", inSoak, async () => {
    const { id } = await started("sleep", "1000000");
    aca.azure.clock.advance(10 * 60_000);
    assert.notEqual(await ok("wait", id), "0");
    const told = /replica may run for 600 s \(aca.replica_timeout\)/;
    await untilTrue(async () => told.test(await ok("inspect", "--format", "{{.State.Error}}", id)));
    await ok("rm", id);
  });
});
