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
import { type ApiResponse, callApi } from "../support/docker-api.ts";
import type { ContainerDetail } from "../support/engine-api.ts";
import { beforeAndAfter, KillSweep, type Life } from "../support/kill-sweep.ts";
import { isAlive, processOf } from "../support/processes.ts";
import { until, untilTrue } from "../support/until.ts";

const isWhole = process.env["SOCKERLESS_SOAK"] === "1";
const sample = [
  ...["azure.Jobs_CreateOrUpdate.after", "azure.Jobs_Start.after"],
  "azure.ManagedEnvironmentsStorages_Delete.before",
];
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

/** How lives go. */
const scenes = [
  /** Its steps count from the first command on. */
  "undisturbed",
  /** From a stop on the agents do not answer: else they end their jobs' executions themselves. */
  "cut off",
  /** The backend is killed between two commands already: what the next one does as it begins are its first steps. */
  "begun again",
] as const;
type Scene = (typeof scenes)[number];

/** Lives at the same time, each in a subscription of its own: most of a life is waiting. */
const lanes = isWhole ? 4 : 1;

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

/** Containers' lives, one after the other, in a subscription that has nothing of them before and afterwards. */
class Lives {
  readonly #aca: AcaDaemon;

  constructor(aca: AcaDaemon) {
    this.#aca = aca;
  }

  /** A life and its end. */
  of(scene: Scene): Life {
    return {
      live: async (begin) => {
        await this.#live(scene, begin);
      },
      settle: () => this.#settle(),
    };
  }

  /** One of which nothing is killed, and all has to succeed. */
  undisturbed(scene: Scene): Life {
    return {
      live: async (begin) => {
        const { ran, told } = await this.#live(scene, begin);
        assert.equal(ran, scene === "begun again" ? 1 : 2, told);
      },
      settle: async () => {
        await untilTrue(() => this.#aca.azure.app.jobs.names().length === 0); // By itself, where nothing is killed.
        await this.#settle();
      },
    };
  }

  /** Lets the command report and remove what nobody's state knows. */
  async collect(...args: string[]): Promise<CommandResult> {
    const { daemon, account } = this.#aca;
    const config = [...account.args, "--state-dir", daemon.stateDir, "--run-dir", daemon.runDir];
    const program = join(checkout, "dist/src/cli/main.js");
    return await runCommand(process.execPath, [program, "gc", "--backend=aca", ...args, ...config], {
      env: { ...process.env, ...account.env },
    });
  }

  /**
   * A container's life, and that of another that ends by itself and is started again, up to where nothing of them and of
   * what they use is left. The state has to agree with the cloud afterwards, whatever becomes of each command.
   *
   * @returns how often the other has run, and what commands that failed have said
   */
  async #live(
    scene: Scene,
    begin: () => Promise<void>,
  ): Promise<{ readonly ran: number; readonly told: string }> {
    const { daemon, azure } = this.#aca;
    const failures: string[] = [];
    const docker = async (...args: string[]): Promise<CommandResult> => {
      const result = await daemon.docker(...args);
      if (result.code !== 0) {
        failures.push(`docker ${args.join(" ")}: ${result.code}, ${result.errorText}`);
      }
      await this.#listed("/containers/json"); // It serves again.
      return result;
    };
    if (scene === "undisturbed") {
      await begin();
    }
    await docker("network", "create", "lane");
    await docker("network", "create", "side");
    const own = ["--volume=kept:/kept", "--network=lane"];
    const reading = "--volume=kept:/read:ro";
    const runs = [await docker("run", "--name=once", ...own, reading, "busybox", "echo", "ran")];
    const lasting = ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"];
    await docker("run", "--detach", "--name=life", ...own, "busybox", ...lasting);
    await docker("network", "connect", "side", "life");
    await docker("network", "disconnect", "side", "life");
    if (scene === "cut off") {
      const cut = azure.app.executions.filter(({ status }) => isUnderWay(status));
      await Promise.all(cut.map(({ name }) => azure.app.cutNetwork(name)));
      await begin();
    }
    if (scene === "begun again") {
      const backend = await processOf(daemon, "backend");
      await begin();
      if (isAlive(backend)) {
        process.kill(backend, "SIGKILL"); // It may have come to the step by itself.
      }
      await processOf(daemon, "backend", backend);
    } else {
      await docker("stop", "--timeout=2", "life");
      await docker("start", "life"); // In its job, which lingers.
      const once = (await this.#find("once"))?.Id;
      await untilTrue(() => once === undefined || this.#running(once) === 0);
      runs.push(await docker("start", "--attach", "once")); // In another job.
    }
    // A start that was under way is taken up, or taken back: at rest it runs, or has ended.
    for (const name of ["life", "once"]) {
      await untilTrue(async () => {
        const found = await this.#find(name);
        return found === undefined || ["running", "exited", "created"].includes(found.State.Status);
      });
    }
    for (const { Id } of await this.#listed<{ readonly Id: string }>("/containers/json?all=1")) {
      await untilTrue(() => this.#running(Id) <= 1);
    }
    const seen = runs.filter(({ code, text }) => code === 0 && text === "ran").length;
    const ran = await until(async () => {
      const { code, text, errorText } = await daemon.docker("logs", "once");
      const count = text.split("\n").filter((line) => line === "ran").length;
      const isTold = code === 0 || /No such container/.test(errorText); // Its creation may be what was cut off.
      return isTold && count >= seen ? count : undefined;
    });
    assert.ok(ran <= 2, `${ran} runs: each start happens once`);
    await this.#untilNone(["rm", "--force", "--volumes", "life", "once"], "/containers/json?all=1");
    const custom = encodeURIComponent(JSON.stringify({ type: ["custom"] }));
    await this.#untilNone(["network", "rm", "lane", "side"], `/networks?filters=${custom}`);
    await untilTrue(async () => {
      await daemon.docker("volume", "rm", "kept");
      const answer = await this.#get("/volumes");
      return answer?.status === 200 && (answer.json() as { Volumes: unknown[] }).Volumes.length === 0;
    });
    return { ran, told: failures.join("\n") };
  }

  /** Nothing runs, no share and no storage is left, and no job but such as gc finds. */
  async #settle(): Promise<void> {
    const { azure, daemon } = this.#aca;
    const { jobs, environments } = azure.app;
    await untilTrue(() => azure.app.executions.every(({ status }) => !isUnderWay(status)));
    const account = azure.storage.account(azure.config["storage_account_name"] ?? "");
    await untilTrue(() => account?.shares.size === 0);
    if (jobs.names().length > 0) {
      await daemon.shutDown();
      const { code, errorText } = await this.collect("--remove");
      assert.equal(code, 0, errorText);
      assert.deepEqual(jobs.names(), []);
      await daemon.launch();
    }
    assert.equal(environments.byId(azure.subscription.environmentId)?.storages.size, 0);
  }

  #running(id: string): number {
    return this.#aca.azure.app.executions.filter(
      ({ job, status }) => job.startsWith(`sk-${id.slice(0, 12)}`) && isUnderWay(status),
    ).length;
  }

  /** An answer of the API; undefined: nobody serves. */
  async #get(path: string): Promise<ApiResponse | undefined> {
    return await callApi(this.#aca.daemon.socket, "GET", `/v1.51${path}`).catch(() => undefined);
  }

  /** A list, once somebody serves. */
  #listed<T>(path: string): Promise<readonly T[]> {
    return until(async () => {
      const answer = await this.#get(path);
      return answer?.status === 200 ? (answer.json() as T[]) : undefined;
    });
  }

  /** A container, once somebody serves; undefined: there is none of this name. */
  async #find(name: string): Promise<ContainerDetail | undefined> {
    const found = await until(async () => {
      const answer = await this.#get(`/containers/${name}/json`);
      return answer !== undefined && [200, 404].includes(answer.status) ? answer : undefined;
    });
    return found.status === 200 ? (found.json() as ContainerDetail) : undefined;
  }

  /** Removes until nothing is listed any more: the step may be one of these. */
  #untilNone(remove: readonly string[], list: string): Promise<void> {
    return untilTrue(async () => {
      await this.#aca.daemon.docker(...remove);
      return (await this.#listed(list)).length === 0;
    });
  }
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
          sweep.record(aca.daemon, new Lives(aca).undisturbed(scene)),
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
    const sweeps = isWhole
      ? await recordSweeps()
      : sample.map((step): { step: string; scene: Scene } => ({ step, scene: "undisturbed" }));
    await Promise.all(
      sweeps.map(({ step, scene }) =>
        t.test(`at ${step}, ${scene}`, (context) =>
          inLane(({ aca, sweep }) => sweep.kill(context, aca.daemon, step, new Lives(aca).of(scene))),
        ),
      ),
    );
  });

  it("is shown by gc: what nobody's state knows", async () => {
    await inLane(async ({ aca }) => {
      const { daemon, account } = aca;
      const lives = new Lives(aca);
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
      const { text, errorText } = await lives.collect();
      assert.match(
        text,
        /^left: job sk-[0-9a-f]{12} \(container [0-9a-f]{12}, instance sockerless\/[0-9a-f]{16}\)$/m,
        errorText,
      );
      assert.match(text, /^left: share sk-lost-[0-9a-f]+ \(volume lost, /m);
      const instance = /instance (sockerless\/[0-9a-f]+)/.exec(text)?.[1] ?? "";
      const removed = await lives.collect("--remove", "--instance", instance);
      assert.match(removed.text, /^removed: job /m, removed.errorText);
      assert.match(removed.text, /^removed: share /m);
      assert.deepEqual(aca.azure.app.jobs.names(), []);
      await daemon.launch();
    });
  });
});
