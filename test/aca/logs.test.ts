/** Logs of containers from a simulated Log Analytics, where no agent is left and they were not taken in, or not all. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import type { CommandResult } from "../support/command.ts";
import { duringTests } from "../support/during-tests.ts";
import { untilTrue } from "../support/until.ts";
import { inSoak } from "../support/soak.ts";

describe("logs in Log Analytics", () => {
  const aca = duringTests(() =>
    AcaDaemon.start({
      aca: async ({ endpoint }) => ({
        ...{ linger: "1s", drain_timeout: "1s", log_drain_max: "50", replica_timeout: "1h" },
        logs_endpoint: endpoint,
      }),
    }),
  );

  const run = async (name: string): Promise<void> => {
    const script = "for n in 1 2 3 4 5; do echo out $n; echo err $n >&2; done";
    await aca.daemon.ok("run", "--detach", "--name", name, "busybox", "sh", "-c", script);
    await aca.daemon.ok("wait", name);
  };
  const logs = (...args: string[]): Promise<CommandResult> => aca.daemon.docker("logs", ...args);
  const queries = (): number => aca.azure.calls.count("loganalytics.Query_Execute");
  const lines = (word: string): string => [1, 2, 3, 4, 5].map((number) => `${word} ${number}`).join("\n");

  it("are whole, both streams told apart, and have last lines", async () => {
    await run("whole");
    // From the agent first; then from Log Analytics, where the last lines may come later.
    await untilTrue(async () => {
      const before = queries();
      const { text, errorText } = await logs("whole");
      return queries() > before && text === lines("out") && errorText === lines("err");
    });
    const { text, errorText } = await logs("--tail", "2", "whole");
    assert.equal([text, errorText].join("\n").trim().split("\n").length, 2);
  });

  it("have runs that were taken in, and one that ended while the backend was away", inSoak, async () => {
    const { daemon, azure } = aca;
    const isOver = () => azure.app.executions.every(({ status }) => status !== "Running");
    const script = "echo ran; exec sleep 1000000";
    await daemon.ok("run", "--detach", "--name", "twice", "busybox", "sh", "-c", script);
    await untilTrue(async () => (await logs("twice")).text === "ran");
    await daemon.ok("kill", "twice");
    await untilTrue(isOver);
    const before = queries();
    assert.equal((await logs("twice")).text, "ran");
    assert.equal(queries(), before, "the first run's was taken in");
    await daemon.ok("start", "twice");
    await untilTrue(async () => (await logs("twice")).text === "ran\nran");
    await daemon.shutDown();
    azure.clock.advance(3_600_000); // Azure's time for a job is over.
    await untilTrue(isOver);
    await daemon.launch();
    await untilTrue(async () => (await logs("twice")).text === "ran\nran");
  });

  it("say that their end has not come", async () => {
    aca.azure.delays.logIngestion = 3_600_000;
    await run("late");
    await untilTrue(async () => {
      const { text, errorText } = await logs("late");
      return text === "" && /^\[sockerless\] the end of this log has not come/.test(errorText);
    });
    aca.azure.clock.advance(3_600_000);
    const { text, errorText } = await logs("late");
    assert.deepEqual([text, errorText], [lines("out"), lines("err")]);
  });
});

describe("logs that nothing keeps but the backend", () => {
  const aca = duringTests(() =>
    AcaDaemon.start({
      aca: async () => ({
        ...{ linger: "1s", drain_timeout: "1s", log_drain_max: "50" },
        ...{ log_analytics_workspace_id: undefined, logs_endpoint: undefined },
      }),
    }),
  );

  it("tell of runs of which they have nothing", async () => {
    const { daemon } = aca;
    await daemon.ok("run", "--name", "short", "busybox", "echo", "short");
    await daemon.ok("run", "--name", "long", "busybox", "echo", "x".repeat(100));
    await untilTrue(async () => (await daemon.docker("logs", "long")).text === "");
    for (const options of [[], ["--tail", "1"], ["--follow"]]) {
      const { code, errorText } = await daemon.docker("logs", ...options, "long");
      assert.equal(code, 1);
      assert.match(errorText, /the log of a run is missing/);
    }
    assert.equal(await daemon.ok("logs", "short"), "short");
  });
});
