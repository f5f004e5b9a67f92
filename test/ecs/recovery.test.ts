/** kill -9 of the backend at steps of a container's life, and a state directory that is lost. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { isDeepStrictEqual } from "node:util";

import { ECSClient, ListTaskDefinitionsCommand } from "@aws-sdk/client-ecs";

import type { SeenTask } from "../simulators/aws/services/ecs/ecs.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { testBuildEnv } from "../support/test-build.ts";
import { until } from "../support/until.ts";

const isWhole = process.env["SOCKERLESS_SOAK"] === "1";
const sample = ["aws.RegisterTaskDefinition.after", "aws.RunTask.after", "workloads.launch.after"];
const whole = [
  ...sample,
  "workloads.create.after",
  "aws.DescribeTaskDefinition.before",
  "aws.RunTask.before",
  "aws.DescribeTasks.after",
  ...[
    "StopTask",
    "CreateSecurityGroup",
    "AuthorizeSecurityGroupIngress",
    "CreateAccessPoint",
    "DeleteAccessPoint",
    "CreateService",
    "RegisterInstance",
  ].flatMap((call) => [`aws.${call}.before`, `aws.${call}.after`]),
  "workloads.launch.before",
  "workloads.release.before",
  "workloads.release.after",
  "workloads.remove.before",
  "workloads.remove.after",
  "volumes.create.after",
  "volumes.remove.before",
  "volumes.remove.after",
  "networks.ensure.after",
  "networks.remove.before",
  "networks.remove.after",
  // What is asked of the backend takes 24 commits; a step that is not taken is a failure.
  ...Array.from({ length: 20 }, (_, index) => `state.commit.before:${index + 1}`),
];

describe("a backend that is killed", () => {
  let ecs: EcsDaemon;
  let armed: string;
  let sdk: ECSClient;

  before(async () => {
    armed = join(await mkdtemp(join(tmpdir(), "skl-ecs-fault-")), "step");
    const env = await testBuildEnv(armed);
    ecs = await EcsDaemon.start({ ecs: { linger: "5s" }, daemon: { env } });
    const { endpoint, region, credentials } = ecs.aws;
    sdk = new ECSClient({ endpoint, region, credentials });
    await ecs.daemon.ok("load", "--input", await busyboxArchiveFile());
  });
  after(async () => {
    sdk.destroy();
    await ecs.stop();
    await rm(join(armed, ".."), { recursive: true });
  });

  const running = (): readonly SeenTask[] =>
    ecs.aws.ecs.tasks.filter(({ state }) => state.desiredStatus === "RUNNING");
  /** What the backend has made in the account, beside tasks and definitions. */
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

  for (const step of isWhole ? whole : sample) {
    it(`at ${step} loses, doubles and leaks nothing`, async () => {
      const { daemon, aws } = ecs;
      const before = made();
      await writeFile(armed, step);
      // Whatever becomes of each command: the state has to agree with the cloud afterwards.
      const sysctl = `--sysctl=net.core.somaxconn=${1000 + step.length}`; // A definition of this test's own.
      await daemon.docker("network", "create", "lane");
      const command = ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"];
      const mounts = ["--volume=kept:/kept", "--network=lane"];
      await daemon.docker("run", "--detach", "--name=life", sysctl, ...mounts, "busybox", ...command);
      await serves();
      if (step.startsWith("aws.StopTask")) {
        // Agents that answer end their tasks themselves.
        for (const { state } of running()) {
          await aws.ecs.cutNetwork(state.taskArn);
        }
      }
      await daemon.docker("stop", "life");
      await serves();
      await daemon.docker("start", "life");
      await serves();
      // A start that was under way is taken up: at rest it runs, or has ended.
      await until(async () => {
        const { code, text } = await daemon.docker("inspect", "--format", "{{.State.Status}}", "life");
        return code !== 0 || ["running", "exited", "created"].includes(text) || undefined;
      });
      const ids = (await daemon.ok("ps", "--all", "--quiet", "--no-trunc"))
        .split("\n")
        .filter((id) => id !== "");
      // A task that was let go, because it would not linger for long enough, takes a moment.
      await until(() => {
        const tasks = running().map(({ state }) => JSON.stringify(state.overrides));
        const owners = ids.map((id) => tasks.filter((overrides) => overrides.includes(id)).length);
        const owned = owners.reduce((sum, count) => sum + count, 0);
        return (owned === tasks.length && owners.every((count) => count <= 1)) || undefined;
      });
      // The step may be one of these: then it is asked for once more.
      await untilNone(["rm", "--force", "--volumes", "life"], ["ps", "--all", "--quiet"]);
      await untilNone(["network", "rm", "lane"], ["network", "ls", "--quiet", "--filter", "type=custom"]);
      await untilNone(["volume", "rm", "kept"], ["volume", "ls", "--quiet"]);
      const left = existsSync(armed) ? await readFile(armed, "utf8") : "";
      await rm(armed, { force: true });
      assert.equal(left, "", "the step was taken");
      await until(() => running().length === 0 || undefined);
      await until(() => isDeepStrictEqual(made(), before) || undefined).catch(() =>
        assert.deepEqual(made(), before),
      );
      const { taskDefinitionArns = [] } = await sdk.send(new ListTaskDefinitionsCommand({}));
      const doubled = taskDefinitionArns.filter((arn) => !arn.endsWith(":1"));
      assert.deepEqual(doubled, [], "each definition is registered once");
    });
  }

  it("leaves a volume that AWS has not answered for to the next backend when it is told to end", async () => {
    const { daemon, aws } = ecs;
    const asked = Promise.withResolvers<void>();
    aws.faults.add({
      on: "efs.CreateAccessPoint",
      where: () => {
        asked.resolve();
        return true;
      },
      delayMs: 20_000, // It is made although nobody waits for it any more.
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
    await until(() => calls() === called + 2 || undefined); // That of the first backend, too.
    assert.equal(made().accessPoints, before.accessPoints + 1);
    await daemon.ok("volume", "rm", "slow");
    assert.deepEqual(made(), before);
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
    assert.equal(await daemon.ok("images", "--format", "{{.Repository}}:{{.Tag}}"), "busybox:latest");
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
