/**
 * kill -9 of the backend at steps of a container's life, and a state directory that is lost. With SOCKERLESS_SOAK=1
 * (`npm run soak -- test/ecs/recovery.test.ts`) it is killed at the steps that a life records, of those that nothing tells
 * apart at the first; with SOCKERLESS_EVERY_STEP=1, too, at every one; else at a sample.
 */
import assert from "node:assert/strict";
import { readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { isDeepStrictEqual } from "node:util";

import { ECSClient, ListTaskDefinitionsCommand } from "@aws-sdk/client-ecs";

import type { SeenTask } from "../simulators/aws/services/ecs/ecs.ts";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { beforeAndAfter, KillSweep, type Life } from "../support/kill-sweep.ts";
import { inSoak, isSoak } from "../support/soak.ts";
import { until, untilTrue } from "../support/until.ts";

const sample = ["aws.RunTask.after"];
/** Steps that a life has to come to at least; others that it comes to are swept too. */
const leastCalls = [
  ...[
    "AuthorizeSecurityGroupEgress",
    "AuthorizeSecurityGroupIngress",
    "CreateAccessPoint",
    "CreateSecurityGroup",
    "CreateService",
    "DeleteAccessPoint",
    "DeleteSecurityGroup",
    "DeleteService",
    "DeregisterInstance",
    "DescribeSecurityGroups",
    "DescribeSubnets",
    "DescribeTasks",
    "RegisterInstance",
    "RegisterTaskDefinition",
    "RevokeSecurityGroupEgress",
    "RevokeSecurityGroupIngress",
    "RunTask",
    "StopTask",
  ].map((call) => `aws.${call}`),
  ...["networks.connect", "networks.disconnect", "networks.ensure", "networks.remove"],
  ...["volumes.create", "volumes.createPart", "volumes.remove"],
  ...["workloads.create", "workloads.end", "workloads.launch", "workloads.release", "workloads.remove"],
  "state.commit",
];
/** A definition that is not there yet is refused. */
const least = [...beforeAndAfter(...leastCalls), "aws.DescribeTaskDefinition.before"];

/** Number of the state's commits in a life, at least. */
const leastCommits = 40;

/** How a life goes. */
interface Scene {
  /** The agents do not answer a stop: else they end their tasks themselves. */
  readonly isCut: boolean;
}

/** A step, as a fault point's file names it, and the life that comes to it. */
interface Sweep {
  readonly step: string;
  readonly scene: Scene;
}

const filesBeneath = async (directory: string): Promise<string[]> =>
  (await readdir(directory, { recursive: true })).toSorted();

describe("a backend that is killed", () => {
  let lives = 0;
  const { sweep, ecs, sdk } = duringTests(async (resources) => {
    const sweep = resources.use(await KillSweep.prepare({ least, asks: /^aws\.(Describe|List)/ }));
    const ecs = resources.use(await EcsDaemon.start({ ecs: { linger: "5s" }, daemon: { env: sweep.env } }));
    return { sweep, ecs, sdk: new ECSClient(ecs.aws.clientConfig) };
  });

  before(async () => {
    // The security group of containers with volumes stays once made: lives are counted from there.
    const { daemon } = ecs;
    await daemon.ok("network", "create", "first");
    await daemon.ok("run", "--rm", "--volume=first:/first", "--network=first", "busybox", "true");
    await daemon.ok("network", "rm", "first");
    await daemon.ok("volume", "rm", "first");
    await until(() => (running().length === 0 && made().groups === 1) || undefined);
  });

  const running = (): readonly SeenTask[] =>
    ecs.aws.ecs.tasks.filter(({ state }) => state.desiredStatus === "RUNNING");
  const tasksOf = (container: string): readonly SeenTask[] =>
    running().filter(({ state }) => JSON.stringify(state.overrides).includes(container));
  /** Counts of what the backend has made in the account, beside tasks and definitions. */
  const made = () => {
    const { account, services } = ecs.aws;
    const groups = services.network.groups.all();
    return {
      groups: groups.filter(({ tags }) => "sockerless-network" in tags).length,
      mountRules: groups.find(({ groupId }) => groupId === account.efsSecurityGroupId)?.rules.length,
      accessPoints: services.efs.accessPoints().length,
      names: services.cloudMap.services.size,
    };
  };

  const serves = async (): Promise<void> => {
    await until(async () => (await ecs.daemon.docker("ps")).code === 0 || undefined);
  };

  /** Removes until nothing is listed any more. */
  const untilNone = async (remove: readonly string[], list: readonly string[]): Promise<void> => {
    await until(async () => {
      await ecs.daemon.docker(...remove);
      const { code, text } = await ecs.daemon.docker(...list); // The backend may die behind the answer.
      return (code === 0 && text === "") || undefined;
    });
  };

  /**
   * A container's life, and that of another that ends by itself and is started again, up to where nothing of
   * them and of what they use is left. The state has to agree with the cloud afterwards, whatever becomes of
   * each command.
   *
   * @returns how often the other has run
   */
  const live = async ({ isCut }: Scene): Promise<number> => {
    const { daemon, aws } = ecs;
    const docker = async (...args: string[]): Promise<void> => {
      await daemon.docker(...args);
      await serves();
    };
    const own = ["--volume=kept:/kept", `--sysctl=net.core.somaxconn=${1000 + lives++}`]; // Definitions of its own.
    await docker("network", "create", "lane");
    await docker("network", "create", "--internal", "inner");
    const lasting = ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"];
    await docker("run", "--detach", "--name=life", "--network=lane", ...own, "busybox", ...lasting);
    await docker("exec", "life", "mkdir", "/kept/part");
    const part = "--mount=type=volume,source=kept,destination=/part,volume-subpath=part";
    await docker("run", "--name=once", "--network=inner", ...own, part, "busybox", "echo", "ran");
    await docker("network", "connect", "inner", "life");
    await docker("network", "disconnect", "inner", "life");
    if (isCut) {
      for (const { state } of running()) {
        await aws.ecs.cutNetwork(state.taskArn);
      }
    }
    await docker("stop", "--timeout=2", "life");
    await docker("start", "life"); // In its task, which lingers.
    const { text: once } = await daemon.docker("inspect", "--format", "{{.Id}}", "once");
    await until(() => once === "" || tasksOf(once).length === 0 || undefined);
    await docker("start", "--attach", "once"); // In another task.
    // A start that was under way is taken up, or taken back: at rest it runs, or has ended.
    for (const name of ["life", "once"]) {
      await until(async () => {
        const { code, text } = await daemon.docker("inspect", "--format", "{{.State.Status}}", name);
        return code !== 0 || ["running", "exited", "created"].includes(text) || undefined;
      });
    }
    const listed = await daemon.ok("ps", "--all", "--quiet", "--no-trunc");
    const ids = listed.split("\n").filter((id) => id !== "");
    // A task that was let go, because it would not linger for long enough, takes a moment.
    await until(() => {
      const owners = ids.map((id) => tasksOf(id).length);
      const owned = owners.reduce((sum, count) => sum + count, 0);
      return (owned === running().length && owners.every((count) => count <= 1)) || undefined;
    });
    const ran = (await daemon.docker("logs", "once")).text
      .split("\n")
      .filter((line) => line === "ran").length;
    assert.ok(ran <= 2, `${ran} runs: each start happens once`);
    // The step may be one of these: then it is asked for once more.
    await untilNone(["rm", "--force", "--volumes", "life", "once"], ["ps", "--all", "--quiet"]);
    await untilNone(
      ["network", "rm", "lane", "inner"],
      ["network", "ls", "--quiet", "--filter", "type=custom"],
    );
    await untilNone(["volume", "rm", "kept"], ["volume", "ls", "--quiet"]);
    return ran;
  };

  /** Waits until there is in the account what was there before, and nothing was registered twice. */
  const assertMade = async (before: object): Promise<void> => {
    await until(() => running().length === 0 || undefined);
    await until(() => isDeepStrictEqual(made(), before) || undefined).catch(() =>
      assert.deepEqual(made(), before),
    );
    const { taskDefinitionArns = [] } = await sdk.send(new ListTaskDefinitionsCommand({}));
    const doubled = taskDefinitionArns.filter((arn) => !arn.endsWith(":1"));
    assert.deepEqual(doubled, [], "each definition is registered once");
  };

  /** A life, of which the account has to have what it had before. */
  const lifeIn = (scene: Scene): Life & { readonly ran: () => number } => {
    const before = made();
    let ran = 0;
    return {
      live: async (begin) => {
        await begin();
        ran = await live(scene);
      },
      settle: () => assertMade(before),
      ran: () => ran,
    };
  };
  const record = async (scene: Scene): Promise<string[]> => {
    const life = lifeIn(scene);
    const recorded = await sweep.record(ecs.daemon, life);
    assert.equal(life.ran(), 2);
    return recorded;
  };

  /** Everything that a life comes to, whose agents answer or do not. */
  const recordSweeps = async (): Promise<Sweep[]> => {
    const plain = await record({ isCut: false });
    const cut = await record({ isCut: true });
    sweep.assertLeast(plain, cut);
    const commits = plain.filter((step) => step === "state.commit.after").length;
    assert.ok(commits >= leastCommits, `a life takes ${commits} commits`);
    // An agent that answers ends its task itself, mostly.
    const isOfCut = (step: string): boolean => step.startsWith("aws.StopTask.") || !plain.includes(step);
    const plainOnly = plain.filter((step) => !isOfCut(step));
    const cutOnly = cut.filter(isOfCut);
    const [ofPlain = [], ofCut = []] = sweep.stepsOf([plainOnly, cutOnly]);
    return [
      ...ofPlain.map((step) => ({ step, scene: { isCut: false } })),
      ...ofCut.map((step) => ({ step, scene: { isCut: true } })),
    ];
  };

  it("loses, doubles and leaks nothing", async (t) => {
    const sweeps = isSoak
      ? await recordSweeps()
      : sample.map((step): Sweep => ({ step, scene: { isCut: false } }));
    for (const { step, scene } of sweeps) {
      await t.test(`at ${step}`, (context) => sweep.kill(context, ecs.daemon, step, lifeIn(scene)));
    }
  });

  it(
    "leaves a volume that AWS has not answered for to the next backend when it is told to end",
    inSoak,
    async () => {
      const { daemon, aws } = ecs;
      const asked = Promise.withResolvers<void>();
      const answering = Promise.withResolvers<void>();
      aws.faults.add({
        on: "efs.CreateAccessPoint",
        where: () => {
          asked.resolve();
          return true;
        },
        hold: answering.promise, // It is made although nobody waits for it any more.
      });
      const before = made();
      const calls = () => aws.calls.all("efs.CreateAccessPoint").length;
      const called = calls();
      const created = daemon.docker("volume", "create", "slow");
      await asked.promise;
      await daemon.shutDown();
      assert.notEqual((await created).code, 0);
      await daemon.launch();
      assert.equal(await daemon.ok("volume", "ls", "--quiet"), "slow");
      const told = ["events", "--since=1", `--until=${Math.ceil(Date.now() / 1000)}`, "--format={{.Action}}"];
      assert.equal(await daemon.ok(...told, "--filter=volume=slow"), "create");
      answering.resolve();
      await until(() => calls() === called + 2 || undefined); // That of the first backend, too.
      assert.equal(made().accessPoints, before.accessPoints + 1);
      await daemon.ok("volume", "rm", "slow");
      assert.deepEqual(made(), before);
    },
  );

  it(
    "takes a lost container over once its agent answers, of which gc says that it does not",
    inSoak,
    async () => {
      const { daemon, aws } = ecs;
      const id = await daemon.ok("run", "--detach", "--name=away", "busybox", "sleep", "1000");
      const task = tasksOf(id)[0]?.state.taskArn ?? "";
      await daemon.shutDown();
      await rm(daemon.stateDir, { recursive: true });
      await aws.ecs.cutNetwork(task);
      await daemon.launch();
      assert.equal(await daemon.ok("ps", "--all", "--quiet"), "");
      await daemon.shutDown();
      const program = join(checkout, "dist/bundle/cli/main.js");
      const config = ["--config", join(ecs.directory, "config.yaml"), "--state-dir", daemon.stateDir];
      const { code, text, errorText } = await runCommand(
        process.execPath,
        [program, "gc", "--backend=ecs", ...config, "--run-dir", daemon.runDir],
        { env: { ...process.env, ...aws.environmentFor() } },
      );
      assert.equal(code, 0, errorText);
      assert.match(text, /^found: task .*, whose agent does not answer: it may run/m);
      await daemon.launch();
      await aws.ecs.restoreNetwork(task);
      await until(async () => (await daemon.ok("ps", "--quiet", "--no-trunc")) === id || undefined);
      assert.equal(await daemon.ok("exec", "away", "echo", "alive"), "alive");
      await daemon.ok("rm", "--force", "away");
      await until(() => running().length === 0 || undefined);
    },
  );

  it("tears nothing down that its state, which is damaged, does not know", inSoak, async () => {
    const { daemon } = ecs;
    await daemon.ok("network", "create", "lane");
    const mounts = ["--volume=kept:/kept", "--network=lane"];
    const told = ["info", "--format={{json .Warnings}}"];
    const id = await daemon.ok("run", "--detach", "--name=runs", ...mounts, "busybox", "sleep", "1000");
    await daemon.ok("run", "--name=ended", "--volume=other:/other", "busybox", "echo", "said");
    const [before, tasks] = [made(), tasksOf(id).map(({ state }) => state.taskArn)];
    await daemon.shutDown();
    const logs = await filesBeneath(join(daemon.stateDir, "logs"));
    const db = join(daemon.stateDir, "db");
    for (const name of (await readdir(db)).filter((each) => /\.(log|ldb)$/.test(each))) {
      await writeFile(join(db, name), Buffer.alloc((await stat(join(db, name))).size, 0x55));
    }
    await daemon.launch();
    await until(async () => (await daemon.ok("ps", "--quiet", "--no-trunc")) === id || undefined);
    assert.equal(await daemon.ok("exec", "runs", "echo", "alive"), "alive");
    assert.match(await daemon.ok(...told), /WARNING: The state may have lost records \(db\/.* is damaged/);
    assert.deepEqual(made(), before);
    assert.deepEqual(
      tasksOf(id).map(({ state }) => state.taskArn),
      tasks,
    );
    assert.deepEqual(await filesBeneath(join(daemon.stateDir, "logs")), logs);
    assert.equal(await daemon.ok("volume", "ls", "--quiet"), "kept\nother");
    await daemon.ok("rm", "--force", "runs");
    await daemon.ok("container", "prune", "--force");
    await daemon.ok("network", "rm", "lane");
    await daemon.ok("volume", "rm", "kept", "other");
    assert.doesNotMatch(await daemon.ok(...told), /lost records/);
    await until(() => running().length === 0 || undefined);
  });

  it("finds containers that were started again since the backup that its state is restored from", async () => {
    const { daemon, aws } = ecs;
    const backup = join(ecs.directory, "backup.tar");
    const sockerless = async (...args: string[]): Promise<void> => {
      const program = join(checkout, "dist/bundle/cli/main.js");
      const { code, errorText } = await runCommand(process.execPath, [
        ...[program, ...args, "--state-dir", daemon.stateDir],
      ]);
      assert.equal(code, 0, errorText);
    };
    const sleeps = ["busybox", "sleep", "1000"];
    const ran = ["policy", "plain", "reused", "same", "removed"];
    const ended = ["created", "lingering"];
    const created = ["created", "created-rm"];
    for (const name of [...ran, "left", "lingering", "recreated"]) {
      const own = name === "removed" ? "--rm" : `--restart=${name === "policy" ? "always" : "no"}`;
      await daemon.ok("run", "--detach", `--name=${name}`, own, ...sleeps);
    }
    await daemon.ok("create", "--name=created", ...sleeps);
    await daemon.ok("create", "--name=created-rm", "--rm", ...sleeps);
    await daemon.ok("stop", "--time=0", "lingering");
    const held = Promise.withResolvers<void>();
    let waiting = 0;
    const releases = ["ecs.RunTask", "ecs.RegisterTaskDefinition"].map((on) =>
      aws.faults.add({ on, times: Infinity, where: () => ++waiting > 0, hold: held.promise }),
    );
    const begun = ["used", "used-rm", "asked"];
    const starts = ["begun", ...begun].map((name) => {
      const definition = name === "asked" ? ["--sysctl=net.core.somaxconn=999"] : []; // One of its own.
      const own = name === "used-rm" ? ["--rm"] : definition;
      return daemon.ok("run", "--detach", `--name=${name}`, ...own, ...sleeps);
    });
    await untilTrue(() => waiting === starts.length);
    await sockerless("backup", backup);
    for (const release of releases) {
      release();
    }
    held.resolve();
    await Promise.all(starts);
    await daemon.ok("restart", "--time=0", ...begun);
    await daemon.ok("rm", "--force", "recreated");
    const anew = await daemon.ok("run", "--detach", "--name=recreated", ...sleeps);
    await daemon.ok("start", ...ended, "created-rm"); // One in its task, which lingers.
    await daemon.ok("restart", "--time=0", "same", "removed", "created-rm"); // In their tasks, likewise.
    const again = ["policy", "plain", "reused", "left", "created"];
    const ids = (await daemon.ok("inspect", "--format={{.Id}}", ...again)).split("\n");
    for (let times = 0; times < 2; times++) {
      await daemon.ok("stop", "--time=0", ...again);
      await until(() => ids.every((id) => tasksOf(id).length === 0) || undefined);
      await daemon.ok("start", ...again);
    }
    await daemon.ok("restart", "--time=0", "reused"); // Its task, which lingers, is tagged with the start before.
    const names = () => running().map(({ state }) => state.taskArn);
    const since = names();
    const runOn = [...ran, ...created, "lingering", "begun", ...begun];
    for (const name of [...runOn, anew]) {
      await daemon.ok("exec", name, "sh", "-c", "echo written >/file");
    }
    await daemon.shutDown();
    await rm(daemon.stateDir, { recursive: true });
    await sockerless("restore", backup);
    await daemon.launch();
    const written = async (name: string) => (await daemon.docker("exec", name, "cat", "/file")).text;
    for (const name of [...runOn, `recreated-${anew.slice(0, 12)}`]) {
      await until(async () => (await written(name)) === "written" || undefined);
    }
    assert.deepEqual(names(), since);
    await daemon.ok("restart", "--time=0", "same");
    assert.equal(await written("same"), "written", "its agent has taken the signal, and its task lingered");
    const all = [...runOn, "left", "recreated", anew];
    await daemon.ok("rm", "--force", ...all);
    await until(() => running().length === 0 || undefined);
  });

  it("is rebuilt from what runs when its state is lost too", async () => {
    const { daemon } = ecs;
    await daemon.ok("network", "create", "lane");
    const script = "echo begun; trap 'exit 5' TERM; while :; do sleep 0.1; done";
    const mounts = ["--volume=kept:/kept", "--network=lane", "--label=of=test"];
    const id = await daemon.ok("run", "--detach", "--name=first", ...mounts, "busybox", "sh", "-c", script);
    await daemon.ok("rename", "first", "lasting");
    await daemon.ok("update", "--restart=unless-stopped", "lasting");
    await daemon.ok("network", "create", "side");
    await daemon.ok("network", "connect", "--alias=beside", "side", "lasting");
    const endpoints = ["inspect", "--format", "{{json .NetworkSettings.Networks}}", "lasting"];
    const before = await daemon.ok(...endpoints);
    await daemon.shutDown();
    await rm(daemon.stateDir, { recursive: true });
    await daemon.launch();
    await until(
      async () =>
        (await daemon.ok("inspect", "--format", "{{.State.Status}}", id)) === "running" || undefined,
    );
    assert.equal(await daemon.ok(...endpoints), before);
    assert.equal(await daemon.ok("inspect", "--format", '{{index .Config.Labels "of"}}', "lasting"), "test");
    const policy = ["inspect", "--format", "{{.HostConfig.RestartPolicy.Name}}", "lasting"];
    assert.equal(await daemon.ok(...policy), "unless-stopped");
    // Beside the built-in one.
    assert.equal(
      await daemon.ok("images", "--format", "{{.Repository}}:{{.Tag}}", "busybox"),
      "busybox:latest",
    );
    assert.equal(await daemon.ok("exec", "lasting", "echo", "alive"), "alive");
    await daemon.ok("commit", "lasting", "kept:1");
    assert.equal(await daemon.ok("run", "--rm", "kept:1", "echo", "committed"), "committed");
    assert.equal(await daemon.ok("logs", "lasting"), "begun");
    assert.equal(await daemon.ok("volume", "ls", "--quiet"), "kept");
    await daemon.ok("stop", "lasting");
    assert.equal(await daemon.ok("inspect", "--format", "{{.State.ExitCode}}", "lasting"), "5");
    await daemon.ok("rm", "lasting");
    await daemon.ok("network", "rm", "lane", "side");
    await daemon.ok("volume", "rm", "kept");
    await until(() => running().length === 0 || undefined);
  });
});
