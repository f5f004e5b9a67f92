/**
 * kill -9 of the backend at steps of a container's life, and what a prune finds. All steps that the life comes to with
 * SOCKERLESS_SOAK=1 (`npm run soak -- test/aca/recovery.test.ts`), else a sample.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it, type TestContext } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import { type CommandResult, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { untilTrue } from "../support/until.ts";

const isWhole = process.env["SOCKERLESS_SOAK"] === "1";
const sample = ["azure.Jobs_CreateOrUpdate.after", "azure.Jobs_Start.after"];
/** Steps that a life has to come to at least; others that it comes to are swept too. */
const least = [
  ...["Jobs_CreateOrUpdate", "Jobs_Delete", "Jobs_Start", "JobExecution"].map((call) => `azure.${call}`),
  ...["workloads.create", "workloads.launch", "workloads.release", "workloads.remove"],
  "state.commit",
].flatMap((step) => [`${step}.before`, `${step}.after`]);

describe("a backend of jobs that is killed", () => {
  let aca: AcaDaemon;
  let armed: string;
  let reached: string;

  before(async () => {
    armed = join(await mkdtemp(join(tmpdir(), "skl-aca-fault-")), "step");
    reached = join(armed, "../reached");
    const env = await testBuildEnv(armed, reached);
    aca = await AcaDaemon.start({ aca: { linger: "5s", drain_timeout: "2s" }, daemon: { env } });
  });
  after(async () => {
    await aca?.stop();
    await rm(join(armed, ".."), { recursive: true });
  });

  const running = (id: string): number =>
    aca.azure.app.executions.filter(
      ({ job, status }) =>
        job.startsWith(`sk-${id.slice(0, 12)}`) && ["Running", "Processing"].includes(status),
    ).length;
  const serves = (): Promise<void> => untilTrue(async () => (await aca.daemon.docker("ps")).code === 0);

  /**
   * A container's life, and that of another that ends by itself and is started again, up to where nothing of them is left.
   * The state has to agree with the cloud afterwards, whatever becomes of each command.
   *
   * @returns how often the other has run
   */
  const live = async (): Promise<number> => {
    const { daemon } = aca;
    const docker = async (...args: string[]): Promise<void> => {
      await daemon.docker(...args);
      await serves();
    };
    const lasting = ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"];
    await docker("run", "--detach", "--name=life", "busybox", ...lasting);
    await docker("run", "--name=once", "busybox", "echo", "ran");
    await docker("stop", "--timeout=2", "life");
    await docker("start", "life"); // In its job, which lingers.
    const { text: once } = await daemon.docker("inspect", "--format", "{{.Id}}", "once");
    await untilTrue(() => once === "" || running(once) === 0);
    await docker("start", "--attach", "once"); // In another job.
    // A start that was under way is taken up: at rest it runs, or has ended.
    for (const name of ["life", "once"]) {
      await untilTrue(async () => {
        const { code, text } = await daemon.docker("inspect", "--format", "{{.State.Status}}", name);
        return code !== 0 || ["running", "exited", "created"].includes(text);
      });
    }
    const listed = await daemon.ok("ps", "--all", "--quiet", "--no-trunc");
    for (const id of listed.split("\n").filter((each) => each !== "")) {
      await untilTrue(() => running(id) <= 1);
    }
    const log = (await daemon.docker("logs", "once")).text;
    const ran = log.split("\n").filter((line) => line === "ran").length;
    assert.ok(ran <= 2, `${ran} runs: each start happens once`);
    // The step may be one of these: then it is asked for once more.
    await untilTrue(async () => {
      await daemon.docker("rm", "--force", "life", "once");
      const { code, text } = await daemon.docker("ps", "--all", "--quiet");
      return code === 0 && text === "";
    });
    return ran;
  };

  /** With one that remembers nothing of an earlier life, each comes to the same steps. */
  const startAnew = async (): Promise<void> => {
    await aca.daemon.shutDown();
    await aca.daemon.launch();
  };
  const prune = async (...args: string[]): Promise<CommandResult> => {
    const { daemon, account } = aca;
    const config = [...account.args, "--state-dir", daemon.stateDir, "--run-dir", daemon.runDir];
    const program = join(checkout, "dist/src/cli/main.js");
    return await runCommand(process.execPath, [program, "aca", "prune", ...args, ...config], {
      env: { ...process.env, ...account.env },
    });
  };
  /** Nothing runs, and no job is left but such as a prune finds. */
  const assertTidy = async (): Promise<void> => {
    const isOver = (status: string): boolean => !["Running", "Processing"].includes(status);
    await untilTrue(() => aca.azure.app.executions.every(({ status }) => isOver(status)));
    await aca.daemon.shutDown();
    const { code, errorText } = await prune("--orphans");
    assert.equal(code, 0, errorText);
    assert.deepEqual(aca.azure.app.jobs.names(), []);
    await aca.daemon.launch();
  };

  const kill = async (t: TestContext, step: string): Promise<void> => {
    await startAnew();
    await writeFile(armed, step);
    await live();
    const isTaken = !existsSync(armed);
    await rm(armed, { force: true });
    await assertTidy();
    assert.ok(isTaken || !least.includes(step), "the step was taken");
    if (!isTaken) {
      t.skip("this life did not come to it");
    }
  };

  /** The steps that a life comes to when nothing kills the backend. */
  const record = async (): Promise<readonly string[]> => {
    await startAnew();
    await rm(reached, { force: true });
    assert.equal(await live(), 2);
    await untilTrue(() => aca.azure.app.jobs.names().length === 0);
    const steps = [...new Set((await readFile(reached, "utf8")).trimEnd().split("\n"))];
    const missed = least.filter((step) => !steps.includes(step));
    assert.deepEqual(missed, [], "steps that a life does not come to any more");
    return steps;
  };

  it("loses, doubles and leaks nothing", async (t) => {
    for (const step of isWhole ? await record() : sample) {
      await t.test(`at ${step}`, (context) => kill(context, step));
    }
  });

  it("is told by a prune of what nobody's state knows", async () => {
    const { daemon, account } = aca;
    await daemon.ok("run", "--name=left", "busybox", "true");
    await daemon.ok("volume", "create", "lost");
    await untilTrue(async () =>
      /exited/.test(await daemon.ok("inspect", "--format={{.State.Status}}", "left")),
    );
    await daemon.shutDown();
    await rm(daemon.stateDir, { recursive: true });
    await rm(join(account.directory, "agent-ca.pem")); // Another instance: what the first has made is not its own.
    await daemon.launch();
    await daemon.shutDown();
    await untilTrue(() => aca.azure.app.executions.every(({ status }) => status !== "Running"));
    const { text, errorText } = await prune();
    assert.match(
      text,
      /^left: job sk-[0-9a-f]{12} \(container [0-9a-f]{12}, instance sockerless\/[0-9a-f]{16}\)$/m,
      errorText,
    );
    assert.match(text, /^left: share sk-lost-[0-9a-f]+ \(volume lost, /m);
    const instance = /instance (sockerless\/[0-9a-f]+)/.exec(text)?.[1] ?? "";
    const removed = await prune("--orphans", "--instance", instance);
    assert.match(removed.text, /^removed: job /m, removed.errorText);
    assert.match(removed.text, /^removed: share /m);
    assert.deepEqual(aca.azure.app.jobs.names(), []);
    await daemon.launch();
  });
});
