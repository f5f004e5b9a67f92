/** The life of containers as jobs: what is asked of Azure for it, what lingers, and what is told when Azure is unwilling. */
import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import type { CommandResult } from "../support/command.ts";
import { duringTests } from "../support/during-tests.ts";
import { until, untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

describe("containers as jobs", () => {
  const aca = duringTests(() => AcaDaemon.start({ aca: { linger: "20m", drain_timeout: "2s" } }));
  const scratch = scratchDirectory();
  beforeEach(() => aca.azure.calls.clear());

  const ok = (...args: string[]): Promise<string> => aca.daemon.ok(...args);
  const docker = (...args: string[]): Promise<CommandResult> => aca.daemon.docker(...args);
  const inspect = (format: string, name: string): Promise<string> => ok("inspect", "--format", format, name);
  const calls = (operation: string): number => aca.azure.calls.count(`app.${operation}`);

  it("run, and have their streams and exit codes", async () => {
    const { text, errorText, code } = await docker(
      ...["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7"],
    );
    assert.deepEqual([text, errorText, code], ["out", "err", 7]);
    assert.deepEqual([calls("Jobs_CreateOrUpdate"), calls("Jobs_Start")], [1, 1]);
    const input = Buffer.alloc(2_000_000, "stdin");
    const echoed = await aca.daemon.dockerWith(
      { input },
      "run",
      "--rm",
      "--interactive",
      "busybox",
      "wc",
      "-c",
    );
    assert.equal(echoed.text, String(input.length));
  });

  it("leave nothing of what they run in the control plane, and their agents' secret is a secret", async () => {
    const id = await ok("create", "--env", "PASSWORD=swordfish", "busybox", "echo", "hush-hush");
    await ok("start", "--attach", id);
    const told = JSON.stringify(aca.azure.calls.all().map(({ input }) => input));
    assert.doesNotMatch(told, /swordfish|hush-hush/);
    assert.match(told, new RegExp(id));
    const job = aca.azure.app.jobs.body(`sk-${id.slice(0, 12)}`)?.properties;
    const [{ value = "" } = {}] = job?.configuration?.secrets ?? [];
    assert.ok(value.length >= 32);
    assert.ok(!JSON.stringify(job?.template).includes(value));
    await ok("rm", id);
  });

  it("are executed in, copied to and from, and told of", async () => {
    const script = "echo out; cat /before; trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done";
    await ok("create", "--name", "life", "--env", "COLOUR=green", "busybox", "sh", "-c", script);
    await writeFile(join(scratch, "before"), "put before the start\n");
    await ok("cp", join(scratch, "before"), "life:/before");
    await ok("start", "life");
    await untilTrue(async () => /put before/.test(await ok("logs", "life")));
    assert.equal(await ok("exec", "life", "sh", "-c", "echo $COLOUR; echo made > /made"), "green");
    assert.equal((await docker("exec", "life", "sh", "-c", "exit 9")).code, 9);
    await ok("cp", "life:/made", join(scratch, "made"));
    assert.equal(await readFile(join(scratch, "made"), "utf8"), "made\n");
    assert.match(await ok("top", "life"), /sleep 0.1|sh -c/);
    await ok("stop", "life");
    assert.equal(await inspect("{{.State.Status}} {{.State.ExitCode}}", "life"), "exited 3");
    assert.match(await ok("logs", "life"), /bye$/);
    await ok("rm", "life");
  });

  it("start again in their job while it lingers, and in another when it is gone", async () => {
    const script = "cat /mark; echo here > /mark; exit 3";
    const id = await ok("create", "--name", "again", "busybox", "sh", "-c", script);
    await ok("start", "again");
    assert.equal(await ok("wait", "again"), "3");
    await ok("start", "again");
    assert.equal(await ok("wait", "again"), "3");
    assert.equal(calls("Jobs_Start"), 1);
    const execution = aca.azure.app.executions.find(({ job }) => job === `sk-${id.slice(0, 12)}`);
    await aca.stopInAzure(execution?.name ?? assert.fail("its job lingers"));
    await untilTrue(() => aca.azure.app.jobs.names().length === 0); // Long before the linger would be over.
    await ok("start", "again");
    assert.equal(await ok("wait", "again"), "3");
    assert.equal(calls("Jobs_Start"), 2);
    await ok("rm", "again");
  });

  it("have no job any more once they are gone", async () => {
    await ok("run", "--detach", "--name", "gone", "busybox", "sleep", "1000");
    await ok("rm", "--force", "gone");
    await untilTrue(() => aca.azure.app.jobs.names().length === 0);
  });

  it("that Azure does not start say why, in its words", async () => {
    aca.azure.faults.add({
      on: "app.Jobs_CreateOrUpdate",
      error: {
        code: "InvalidParameterValueInContainerTemplate",
        message: "the template is not to our liking",
      },
    });
    const { code, errorText } = await docker("run", "--rm", "busybox", "true");
    assert.equal(code, 125);
    assert.match(errorText, /failed to start a task for the container: .*the template is not to our liking/);
    assert.equal(await ok("ps", "--all", "--quiet"), "");
  });

  it("are found again by a backend that was away, and by one that has lost its state", async () => {
    await ok("volume", "create", "--label", "of=life", "kept");
    const id = await ok(
      ...["run", "--detach", "--name", "first", "--label", "of=life", "--volume", "kept:/kept", "busybox"],
      ...["sh", "-c", "echo begun; trap 'exit 9' TERM; while :; do sleep 0.1; done"],
    );
    await ok("rename", "first", "stays");
    await ok("update", "--restart=on-failure:2", "stays");
    const { daemon } = aca;
    await daemon.shutDown();
    await daemon.launch();
    assert.equal(await ok("exec", "stays", "echo", "again"), "again");
    await daemon.shutDown();
    await rm(daemon.stateDir, { recursive: true });
    await daemon.launch();
    const adopted = await until(async () => (await ok("ps", "--quiet", "--no-trunc")) || undefined);
    assert.equal(adopted, id);
    const told =
      "{{.Name}} {{.Config.Labels.of}} {{.HostConfig.RestartPolicy.Name}} {{(index .Mounts 0).Name}}";
    assert.equal(await inspect(told, id), "/stays life on-failure kept");
    assert.equal(await ok("exec", "stays", "echo", "still here"), "still here");
    assert.equal(await ok("logs", "stays"), "begun");
    assert.equal(await ok("volume", "inspect", "--format", "{{.Labels.of}}", "kept"), "life");
    assert.match((await docker("volume", "rm", "kept")).errorText, /volume is in use/);
    await ok("stop", "stays");
    assert.equal(await ok("wait", "stays"), "9");
    await ok("rm", "stays");
    await ok("volume", "rm", "kept");
  });
});
