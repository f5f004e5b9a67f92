/**
 * Ends that Azure has told while Log Analytics refuses or cannot be reached: they are final all the same. What takes a minute
 * is run with SOCKERLESS_SOAK=1 (`npm run soak -- "untold ends"`).
 */
import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";

import type { Fault } from "../simulators/common/faults.ts";
import { AcaDaemon } from "../support/aca-daemon.ts";
import type { CommandResult } from "../support/command.ts";
import { duringTests } from "../support/during-tests.ts";
import { inSoak } from "../support/soak.ts";
import { untilTrue } from "../support/until.ts";

const failures: readonly (readonly [what: string, Omit<Fault, "on">, why: RegExp])[] = [
  [
    "refuses",
    { error: { code: "InsufficientAccessError", status: 403, message: "no" } },
    /Query_Execute: no.*\(InsufficientAccessError\)/,
  ],
  ["cannot be reached", { cut: "before" }, /Query_Execute: /],
];

describe("containers whose execution has ended while Log Analytics is not to be had", () => {
  const aca = duringTests(() => AcaDaemon.start({ aca: { linger: "0s", drain_timeout: "2s" } }));
  afterEach(() => aca.azure.faults.clear());

  const inspect = (format: string, name: string): Promise<string> =>
    aca.daemon.ok("inspect", "--format", format, name);

  /** Runs a container with a client, and loses its replica, of which Azure tells nothing yet. @returns the client's end */
  const lose = async (
    name: string,
    ...options: string[]
  ): Promise<{ readonly execution: string; readonly run: Promise<CommandResult> }> => {
    const { daemon, azure } = aca;
    const run = daemon.docker(
      ...["run", "--name", name, ...options, "busybox", "sh", "-c", "echo first; sleep 1000000"],
    );
    await untilTrue(async () => (await daemon.docker("logs", name)).text === "first");
    const id = await inspect("{{.Id}}", name);
    const execution = azure.app.executions.find(({ job }) => job.startsWith(`sk-${id.slice(0, 12)}`));
    assert.ok(execution);
    azure.app.tell(execution.name, "Running");
    azure.app.kill(execution.name);
    await execution.finished; // Until then its agent would answer a stop.
    return { execution: execution.name, run };
  };

  it(
    "have the code that Azure tells, though it tells of no other, and a client that is owed output has an error",
    inSoak,
    async () => {
      const { azure, daemon } = aca;
      const [[, refused]] = failures as [(typeof failures)[0]];
      azure.faults.add({ on: "loganalytics", times: Infinity, ...refused });
      const lost = [await lose("succeeds"), await lose("goes", "--rm")];
      const hidden = await lose("hidden");
      azure.faults.add({ on: "app.Jobs_ListByResourceGroup", times: Infinity, ...refused });
      const where = (input: unknown): boolean => JSON.stringify(input).includes(hidden.execution);
      azure.faults.add({ on: "app.JobExecution", times: Infinity, where, ...refused });
      for (const { execution } of [...lost, hidden]) {
        azure.app.tell(execution, "Succeeded");
      }
      for (const { run } of lost) {
        const { code, errorText } = await run;
        assert.equal(code, 125, errorText);
        assert.match(errorText, /its output may not be whole/);
      }
      await untilTrue(
        async () => (await inspect("{{.State.Status}} {{.State.ExitCode}}", "succeeds")) === "exited 0",
      );
      const logs = await daemon.docker("logs", "succeeds");
      assert.notEqual(logs.code, 0);
      assert.match(logs.errorText, /the log is not to be had, because Query_Execute: no/);
      assert.equal(await inspect("{{.State.Status}}", "hidden"), "running");
      azure.faults.clear();
      assert.notEqual((await hidden.run).code, 0);
      assert.equal(await inspect("{{.State.Status}} {{.State.ExitCode}}", "hidden"), "exited 0");
      await daemon.ok("rm", "succeeds", "hidden");
    },
  );

  it("are an error to clients of a container that is stopped, where Azure tells of a success", async () => {
    const { azure, daemon } = aca;
    const [asked, answered] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const where = (): boolean => {
      asked.resolve();
      return true;
    };
    azure.faults.add({ on: "app.Jobs_StopExecution", times: Infinity, where, hold: answered.promise });
    const { execution, run } = await lose("stopped");
    const stop = daemon.docker("stop", "--time", "0", "stopped");
    await asked.promise;
    azure.app.tell(execution, "Succeeded");
    answered.resolve();
    const { code, errorText } = await run;
    assert.equal(code, 125, errorText);
    assert.match(errorText, /its output may not be whole/);
    assert.equal((await stop).code, 0);
    await daemon.ok("rm", "stopped");
  });

  for (const [index, [what, fault, why]] of failures.entries()) {
    it(`have ended with 255 a minute later where it ${what}`, inSoak, async () => {
      const { azure, daemon } = aca;
      azure.faults.add({ on: "loganalytics", times: Infinity, ...fault });
      const name = `lost-${index}`;
      const { execution, run } = await lose(name);
      azure.app.tell(execution, undefined);
      const { code, errorText } = await run;
      assert.notEqual(code, 0, errorText);
      await untilTrue(
        async () => (await inspect("{{.State.Status}} {{.State.ExitCode}}", name)) === "exited 255",
      );
      const error = await inspect("{{.State.Error}}", name);
      assert.match(
        error,
        /the job's execution has failed.*its exit code is not to be had from Log Analytics, because/,
      );
      assert.match(error, why);
      assert.match(
        (await daemon.docker("logs", name)).errorText,
        /the log is not to be had, because Query_Execute: /,
      );
      assert.equal(await daemon.ok("wait", name), "255");
      await daemon.ok("rm", name);
    });
  }
});
