/**
 * kill -9 of the backend at steps of a container's life, and what a prune finds. All steps that the life comes to with
 * SOCKERLESS_SOAK=1 (`npm run soak -- test/aca/recovery.test.ts`), else a sample.
 */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { AcaDaemon } from "../support/aca-daemon.ts";
import { type CommandResult, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { beforeAndAfter, KillSweep, type Life } from "../support/kill-sweep.ts";
import { until, untilTrue } from "../support/until.ts";

const isWhole = process.env["SOCKERLESS_SOAK"] === "1";
const sample = ["azure.Jobs_CreateOrUpdate.after", "azure.Jobs_Start.after"];
/** Steps that a life has to come to at least; others that it comes to are swept too. */
const least = beforeAndAfter(
  ...[
    "FileShares_Create",
    "FileShares_Delete",
    "JobExecution",
    "Jobs_CreateOrUpdate",
    "Jobs_Delete",
    "Jobs_Start",
    "Jobs_StopExecution",
    "ManagedEnvironmentsStorages_CreateOrUpdate",
    "ManagedEnvironmentsStorages_Delete",
  ].map((call) => `azure.${call}`),
  ...["networks.connect", "networks.disconnect", "networks.ensure", "networks.remove"],
  ...["volumes.create", "volumes.remove"],
  ...["workloads.create", "workloads.end", "workloads.launch", "workloads.release", "workloads.remove"],
  "state.commit",
);

/** How a life goes. */
interface Scene {
  /** The agents do not answer a stop: else they end their jobs' executions themselves. */
  readonly isCut: boolean;
}

describe("a backend of jobs that is killed", () => {
  let aca: AcaDaemon;
  let sweep: KillSweep;

  before(async () => {
    sweep = await KillSweep.prepare({ least, asks: /^azure\.(JobExecution|\w+_(Get|List\w*))\./ });
    aca = await AcaDaemon.start({
      aca: async ({ endpoint }) => ({ linger: "5s", drain_timeout: "2s", logs_endpoint: endpoint }),
      daemon: { env: sweep.env },
    });
  });
  after(async () => {
    await aca?.stop();
    await sweep?.[Symbol.asyncDispose]();
  });

  const isUnderWay = (status: string): boolean => ["Running", "Processing"].includes(status);
  const running = (id: string): number =>
    aca.azure.app.executions.filter(
      ({ job, status }) => job.startsWith(`sk-${id.slice(0, 12)}`) && isUnderWay(status),
    ).length;
  const shares = (): number =>
    aca.azure.storage.account(aca.azure.config["storage_account_name"] ?? "")?.shares.size ?? 0;
  const serves = (): Promise<void> => untilTrue(async () => (await aca.daemon.docker("ps")).code === 0);

  /** Removes until nothing is listed any more: the step may be one of these. */
  const untilNone = (remove: readonly string[], list: readonly string[]): Promise<void> =>
    untilTrue(async () => {
      await aca.daemon.docker(...remove);
      const { code, text } = await aca.daemon.docker(...list);
      return code === 0 && text === "";
    });

  /**
   * A container's life, and that of another that ends by itself and is started again, up to where nothing of them and of
   * what they use is left. The state has to agree with the cloud afterwards, whatever becomes of each command.
   *
   * @returns how often the other has run, and what commands that failed have said
   */
  const live = async ({ isCut }: Scene): Promise<{ readonly ran: number; readonly told: string }> => {
    const { daemon, azure } = aca;
    const failures: string[] = [];
    const docker = async (...args: string[]): Promise<CommandResult> => {
      const result = await daemon.docker(...args);
      if (result.code !== 0) {
        failures.push(`docker ${args.join(" ")}: ${result.code}, ${result.errorText}`);
      }
      await serves();
      return result;
    };
    const isRun = ({ code, text }: CommandResult): boolean => code === 0 && text === "ran";
    await docker("network", "create", "lane");
    await docker("network", "create", "side");
    const own = ["--volume=kept:/kept", "--network=lane"];
    const lasting = ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"];
    await docker("run", "--detach", "--name=life", ...own, "busybox", ...lasting);
    const reading = "--volume=kept:/read:ro";
    const first = await docker("run", "--name=once", ...own, reading, "busybox", "echo", "ran");
    await docker("network", "connect", "side", "life");
    await docker("network", "disconnect", "side", "life");
    if (isCut) {
      const cut = azure.app.executions.filter(({ status }) => isUnderWay(status));
      await Promise.all(cut.map(({ name }) => azure.app.cutNetwork(name)));
    }
    await docker("stop", "--timeout=2", "life");
    await docker("start", "life"); // In its job, which lingers.
    const { text: once } = await daemon.docker("inspect", "--format", "{{.Id}}", "once");
    await untilTrue(() => once === "" || running(once) === 0);
    const second = await docker("start", "--attach", "once"); // In another job.
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
    const seen = [first, second].filter(isRun).length;
    const ran = await until(async () => {
      const { code, text, errorText } = await daemon.docker("logs", "once");
      const count = text.split("\n").filter((line) => line === "ran").length;
      const isTold = code === 0 || /No such container/.test(errorText); // Its creation may be what was cut off.
      return isTold && count >= seen ? count : undefined;
    });
    assert.ok(ran <= 2, `${ran} runs: each start happens once`);
    await untilNone(["rm", "--force", "--volumes", "life", "once"], ["ps", "--all", "--quiet"]);
    const custom = ["network", "ls", "--quiet", "--filter", "type=custom"];
    await untilNone(["network", "rm", "lane", "side"], custom);
    await untilNone(["volume", "rm", "kept"], ["volume", "ls", "--quiet"]);
    return { ran, told: failures.join("\n") };
  };

  const prune = async (...args: string[]): Promise<CommandResult> => {
    const { daemon, account } = aca;
    const config = [...account.args, "--state-dir", daemon.stateDir, "--run-dir", daemon.runDir];
    const program = join(checkout, "dist/src/cli/main.js");
    return await runCommand(process.execPath, [program, "aca", "prune", ...args, ...config], {
      env: { ...process.env, ...account.env },
    });
  };
  /** Nothing runs, no share is left, and no job but such as a prune finds. */
  const assertTidy = async (): Promise<void> => {
    await untilTrue(() => aca.azure.app.executions.every(({ status }) => !isUnderWay(status)));
    await untilTrue(() => shares() === 0);
    await aca.daemon.shutDown();
    const { code, errorText } = await prune("--orphans");
    assert.equal(code, 0, errorText);
    assert.deepEqual(aca.azure.app.jobs.names(), []);
    await aca.daemon.launch();
  };
  const lifeIn = (scene: Scene): Life => ({
    live: async () => {
      await live(scene);
    },
    settle: assertTidy,
  });

  /** Everything that a life comes to, whose agents answer or do not. */
  const recordSweeps = async (): Promise<{ readonly step: string; readonly scene: Scene }[]> => {
    const record = (scene: Scene): Promise<string[]> =>
      sweep.record(aca.daemon, {
        live: async () => {
          const { ran, told } = await live(scene);
          assert.equal(ran, 2, told);
        },
        settle: async () => {
          await untilTrue(() => aca.azure.app.jobs.names().length === 0); // By itself, where nothing is killed.
          await assertTidy();
        },
      });
    const plain = await record({ isCut: false });
    const cut = await record({ isCut: true });
    sweep.assertLeast(plain, cut);
    const ofCut = cut.filter((step) => !plain.includes(step));
    return [
      ...sweep.stepsOf(plain).map((step) => ({ step, scene: { isCut: false } })),
      ...sweep.stepsOf(ofCut).map((step) => ({ step, scene: { isCut: true } })),
    ];
  };

  it("loses, doubles and leaks nothing", async (t) => {
    const sweeps = isWhole ? await recordSweeps() : sample.map((step) => ({ step, scene: { isCut: false } }));
    for (const { step, scene } of sweeps) {
      await t.test(`at ${step}`, (context) => sweep.kill(context, aca.daemon, step, lifeIn(scene)));
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
