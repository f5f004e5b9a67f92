/**
 * kill -9 of the backend at steps of a container's life, and what gc finds. With SOCKERLESS_SOAK=1 (`npm run soak --
 * "kills on Azure"`) it is killed at the steps that a life records, of those that nothing tells apart at the first; with
 * SOCKERLESS_EVERY_STEP=1, too, at every one; else at a sample.
 */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { AcaDaemon, type AcaDaemonOptions } from "../support/aca-daemon.ts";
import { type CommandResult, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { beforeAndAfter, KillSweep } from "../support/kill-sweep.ts";
import { LifeThroughKills, type Scene } from "../support/life-through-kills.ts";
import { inSoak, isSoak } from "../support/soak.ts";
import { untilTrue } from "../support/until.ts";

const sample = ["azure.Jobs_Start.after"];
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

const scenes: readonly Scene[] = ["undisturbed", "cut off", "begun again"];

/** Lives at the same time, each in a subscription of its own: most of a life is waiting. */
const lanes = isSoak ? 4 : 1;

/** A subscription, and a daemon that can be killed. */
interface Lane {
  readonly aca: AcaDaemon;
  readonly sweep: KillSweep;
}

async function openLane(resources: AsyncDisposableStack): Promise<Lane> {
  const asks = /^azure\.(JobExecution|\w+_(Get\w*|List\w*))\./;
  const sweep = resources.use(await KillSweep.prepare({ least, asks }));
  const options: AcaDaemonOptions = {
    aca: async ({ endpoint }) => ({ linger: "5s", drain_timeout: "2s", logs_endpoint: endpoint }),
    daemon: { env: sweep.env },
  };
  return { aca: resources.use(await AcaDaemon.start(options)), sweep };
}

const isUnderWay = (status: string): boolean => ["Running", "Processing"].includes(status);

/** Containers' lives in a subscription. */
function livesIn(aca: AcaDaemon): LifeThroughKills {
  const { azure, daemon } = aca;
  return new LifeThroughKills({
    daemon,
    onceOptions: ["--volume=kept:/read:ro"],
    running: (id) =>
      azure.app.executions.filter(
        ({ job, status }) => job.startsWith(`sk-${id.slice(0, 12)}`) && isUnderWay(status),
      ).length,
    async cutOff() {
      const cut = azure.app.executions.filter(({ status }) => isUnderWay(status));
      await Promise.all(cut.map(({ name }) => azure.app.cutNetwork(name)));
    },
    settleByItself: () => untilTrue(() => azure.app.jobs.names().length === 0),
    settle: () => settle(aca),
  });
}

/** Nothing runs, no share and no storage is left, and no job but such as gc finds. */
async function settle(aca: AcaDaemon): Promise<void> {
  const { azure, daemon } = aca;
  const { jobs, environments } = azure.app;
  await untilTrue(() => azure.app.executions.every(({ status }) => !isUnderWay(status)));
  const account = azure.storage.account(azure.config["storage_account_name"] ?? "");
  await untilTrue(() => account?.shares.size === 0);
  if (jobs.names().length > 0) {
    await daemon.shutDown();
    const { code, errorText } = await collect(aca, "--remove");
    assert.equal(code, 0, errorText);
    assert.deepEqual(jobs.names(), []);
    await daemon.launch();
  }
  assert.equal(environments.byId(azure.subscription.environmentId)?.storages.size, 0);
}

/** Lets the command report and remove what nobody's state knows. */
async function collect({ daemon, account }: AcaDaemon, ...args: string[]): Promise<CommandResult> {
  const config = [...account.args, "--state-dir", daemon.stateDir, "--run-dir", daemon.runDir];
  const program = join(checkout, "dist/bundle/cli/main.js");
  return await runCommand(process.execPath, [program, "gc", "--backend=aca", ...args, ...config], {
    env: { ...process.env, ...account.env },
  });
}

describe("a backend of jobs that is killed", () => {
  const resources = new AsyncDisposableStack();
  const free: Lane[] = [];

  before(async () => {
    free.push(...(await Promise.all(Array.from({ length: lanes }, () => openLane(resources)))));
  });
  after(() => resources.disposeAsync());

  /** Has it done in a lane, of which there are as many as are asked for at once. */
  const inLane = async <T>(work: (lane: Lane) => Promise<T>): Promise<T> => {
    const lane = free.shift();
    assert.ok(lane, "a lane is free");
    try {
      return await work(lane);
    } finally {
      free.push(lane);
    }
  };

  /** Everything that a life comes to. */
  const recordSweeps = async (): Promise<{ readonly step: string; readonly scene: Scene }[]> => {
    const records = await Promise.all(
      scenes.map(async (scene) => {
        const recorded = await inLane(({ aca, sweep }) =>
          sweep.record(aca.daemon, livesIn(aca).undisturbed(scene)),
        );
        // An agent that answers ends its execution itself, unless it is late.
        const isOfCut = (step: string): boolean => /^(azure\.Jobs_StopExecution|workloads\.end)\./.test(step);
        return scene === "cut off" ? recorded : recorded.filter((step) => !isOfCut(step));
      }),
    );
    const [sweep] = free.map((lane) => lane.sweep);
    assert.ok(sweep);
    sweep.assertLeast(...records);
    const steps = sweep.stepsOf(records);
    return scenes.flatMap((scene, index) => (steps[index] ?? []).map((step) => ({ step, scene })));
  };

  it("loses, doubles and leaks nothing", { concurrency: lanes }, async (t) => {
    const sweeps = isSoak
      ? await recordSweeps()
      : sample.map((step): { step: string; scene: Scene } => ({ step, scene: "undisturbed" }));
    await Promise.all(
      sweeps.map(({ step, scene }) =>
        t.test(`at ${step}, ${scene}`, (context) =>
          inLane(({ aca, sweep }) => sweep.kill(context, aca.daemon, step, livesIn(aca).of(scene))),
        ),
      ),
    );
  });

  it("is shown by gc: what nobody's state knows", inSoak, async () => {
    await inLane(async ({ aca }) => {
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
      const { text, errorText } = await collect(aca);
      assert.match(
        text,
        /^left: job sk-[0-9a-f]{12} \(container [0-9a-f]{12}, instance sockerless\/[0-9a-f]{16}\)$/m,
        errorText,
      );
      assert.match(text, /^left: share sk-lost-[0-9a-f]+ \(volume lost, /m);
      const instance = /instance (sockerless\/[0-9a-f]+)/.exec(text)?.[1] ?? "";
      const removed = await collect(aca, "--remove", "--instance", instance);
      assert.match(removed.text, /^removed: job /m, removed.errorText);
      assert.match(removed.text, /^removed: share /m);
      assert.deepEqual(aca.azure.app.jobs.names(), []);
      await daemon.launch();
    });
  });
});
