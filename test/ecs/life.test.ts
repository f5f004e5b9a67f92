/** The life of containers as tasks: what is asked of AWS for it, what lingers, and what is told when AWS is unwilling. */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { ECSClient, StopTaskCommand } from "@aws-sdk/client-ecs";

import type { SeenTask } from "../simulators/aws/services/ecs/ecs.ts";
import type { StartFailure } from "../simulators/aws/services/ecs/start-failures.ts";
import { callApi } from "../support/call-api.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { until } from "../support/until.ts";
import { inSoak } from "../support/soak.ts";

describe("containers as tasks", () => {
  const ecs = duringTests(() => EcsDaemon.start());

  beforeEach(() => ecs.aws.calls.clear());

  const ok = (...args: string[]): Promise<string> => ecs.daemon.ok(...args);
  const inspect = (format: string, name: string): Promise<string> => ok("inspect", "--format", format, name);
  const taskOf = (id: string): SeenTask => {
    const found = ecs.aws.ecs.tasks
      .filter(({ state }) => JSON.stringify(state.overrides).includes(id))
      .at(-1);
    assert.ok(found, `no task of ${id}`);
    return found;
  };

  const stopInEcs = async ({ state }: SeenTask): Promise<void> => {
    const client = new ECSClient(ecs.aws.clientConfig);
    const stop = { cluster: "sockerless", task: state.taskArn, reason: "by an administrator" };
    await client.send(new StopTaskCommand(stop));
    client.destroy();
  };

  it("need one call to run, one definition for all that are alike, and none to go", async () => {
    for (const command of ["true", "id", "pwd"]) {
      await ok("run", "--rm", "--env", `COMMAND=${command}`, "busybox", command);
    }
    assert.equal(ecs.aws.calls.count("ecs.RunTask"), 3);
    assert.equal(ecs.aws.calls.count("ecs.RegisterTaskDefinition"), 1);
    assert.equal(ecs.aws.calls.count("ecs.StopTask"), 0);
    const refused = ecs.aws.calls.all().filter(({ error }) => error === "ThrottlingException");
    assert.deepEqual(refused, []);
  });

  it("leave nothing of what they run in the control plane", async () => {
    await ok("run", "--rm", "--env", "PASSWORD=swordfish", "busybox", "echo", "hush-hush");
    const told = JSON.stringify([
      ecs.aws.calls.all("ecs.RunTask").map(({ input }) => input),
      ecs.aws.calls.all("ecs.RegisterTaskDefinition").map(({ input }) => input),
    ]);
    assert.doesNotMatch(told, /swordfish|hush-hush/);
    assert.match(told, /SOCKERLESS_CONTAINER_ID/);
  });

  it("have nothing of the agent's own in CloudWatch but that it was ready and how it ended", async () => {
    const id = await ok("create", "--rm", "busybox", "echo", "mine");
    await ok("start", "--attach", id);
    const task = taskOf(id);
    await task.finished;
    const stream = `sockerless/main/${task.state.taskArn?.split("/").at(-1)}`;
    const lines = ecs.aws.services.logs.stream("/sockerless/containers", stream).events;
    assert.deepEqual(
      lines.map(
        ({ message }) =>
          /^\[sockerless\] (?:time=\S+ )?(.*?)(?: listen=.*| generation=.*)?$/.exec(message)?.[1] ?? message,
      ),
      ['level=INFO msg="the agent is ready"', "mine", "exit"],
    );
  });

  it("start again in their task while it lingers, with their files, and afresh when it is gone", async () => {
    const script = "cat /mark; echo here > /mark; exit 3";
    const id = await ok("create", "--name", "again", "busybox", "sh", "-c", script);
    await ok("start", "again");
    assert.equal(await ok("wait", "again"), "3");
    await ok("start", "again");
    assert.equal(await ok("wait", "again"), "3");
    const phases = JSON.parse(await ok("inspect", "--format", "{{json .StartPhases}}", id)) as {
      readonly Name: string;
    }[];
    assert.deepEqual(
      phases.map(({ Name }) => Name),
      ["accepted", "definition", "process"],
      "nothing of the start before",
    );
    assert.equal(ecs.aws.calls.count("ecs.RunTask"), 1);
    assert.match(await ok("logs", "again"), /^here$/m);

    const task = taskOf(id);
    await stopInEcs(task);
    await task.finished;
    await until(async () => {
      const { errorText } = await ecs.daemon.docker("cp", "again:/mark", "-");
      return errorText.includes("(ecs.linger)") || undefined; // Long before the linger would be over.
    });
    await ok("start", "again");
    assert.equal(await ok("wait", "again"), "3");
    assert.equal(ecs.aws.calls.count("ecs.RunTask"), 2);
    await ok("rm", "again");
  });

  it("have their files while their task lingers: they are copied out of it, and committed", async () => {
    await ok("run", "--name", "left", "busybox", "sh", "-c", "echo mine > /own");
    const { code, stdout } = await ecs.daemon.docker("cp", "left:/own", "-");
    assert.equal(code, 0);
    assert.match(stdout.toString("latin1"), /^own\0[\s\S]*mine\n/);
    await ok("commit", "left", "own:1");
    await ok("rm", "left");
    assert.equal(await ok("run", "--rm", "own:1", "cat", "/own"), "mine");
    await ok("rmi", "own:1");
  });

  it("restart by their policy in the same task", async () => {
    await ok(
      ...["run", "--detach", "--name", "stubborn", "--restart", "on-failure:2", "busybox"],
      ...["sh", "-c", "exit 4"],
    );
    await until(
      async () =>
        (await inspect("{{.RestartCount}} {{.State.Status}}", "stubborn")) === "2 exited" || undefined,
    );
    assert.equal(ecs.aws.calls.count("ecs.RunTask"), 1);
    assert.equal(await inspect("{{.State.ExitCode}}", "stubborn"), "4");
    await ok("rm", "stubborn");
  });

  it("that AWS does not start say why, in its words", async () => {
    const failures: readonly (readonly [StartFailure["kind"], string])[] = [
      ["pull", "CannotPullContainerError: manifest unknown: Requested image not found"],
      ["interface", "Unexpected EC2 error while attempting to tag network interface: UnauthorizedOperation"],
      ["mount", "ResourceInitializationError: failed to invoke EFS utils commands: access denied by server"],
    ];
    for (const [kind, reason] of failures) {
      ecs.aws.ecs.failStarts({ kind, reason });
      const volume = kind === "mount" ? ["--volume", "data:/data"] : [];
      const { code, errorText } = await ecs.daemon.docker("run", "--rm", ...volume, "busybox", "true");
      assert.equal(code, 125, kind);
      assert.match(errorText, /Error response from daemon: failed to start a task for the container: /, kind);
      assert.ok(errorText.includes(reason), errorText);
    }
    assert.equal(await ok("ps", "--all", "--quiet"), "");
    await ok("volume", "rm", "data");
  });

  it("wait while the account's vCPUs are used up, and the log says for what", async () => {
    const { quotas } = ecs.aws;
    const before = quotas.fargateVcpus;
    quotas.fargateVcpus = 0;
    try {
      const run = ok("run", "--rm", "busybox", "echo", "at last");
      await until(() => /waits to be started: .*vCPUs/.test(ecs.daemon.output) || undefined);
      quotas.fargateVcpus = before;
      assert.equal(await run, "at last");
    } finally {
      quotas.fargateVcpus = before;
    }
  });

  it("that are stopped in ECS never end with 0, and say who it was", async () => {
    for (const [name, script, code] of [
      ["obedient", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done", "7"],
      ["graceful", "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done", "255"],
    ] as const) {
      const id = await ok("run", "--detach", "--name", name, "busybox", "sh", "-c", script);
      await until(async () => (await ok("logs", name)) === "up" || undefined);
      await stopInEcs(taskOf(id));
      assert.equal(await ok("wait", name), code);
      const said = /stopped in ECS: by an administrator/;
      await until(async () => said.test(await inspect("{{.State.Error}}", name)) || undefined);
      await ok("rm", name);
    }
  });

  it("that vanish end with 255 and a reason, never with 0", async () => {
    const id = await ok("run", "--detach", "--name", "vanished", "busybox", "sleep", "600");
    ecs.aws.ecs.vanish(taskOf(id).state.taskArn ?? "");
    assert.equal(await ok("wait", "vanished"), "255");
    assert.notEqual(await inspect("{{.State.Error}}", "vanished"), "");
    await ok("rm", "vanished");
  });

  it("that need more memory than they have are killed, and inspect says so", async () => {
    const command = ["dd", "if=/dev/zero", "of=/dev/null", "bs=800M", "count=1"];
    const { code } = await ecs.daemon.docker(
      ...["run", "--name", "hungry", "--memory", "512m", "busybox", ...command],
    );
    assert.equal(code, 137);
    assert.equal(await inspect("{{.State.OOMKilled}}", "hungry"), "true");
    await ok("rm", "hungry");
  });

  it("are refused what Fargate does not have, and go without what does not matter", async () => {
    for (const [flag, name] of [
      ["--privileged", "--privileged"],
      ["--cap-add=NET_ADMIN", "--cap-add"],
      ["--pid=host", "--pid"],
      ["--device-cgroup-rule=c 1:3 r", "--device-cgroup-rule"],
    ] as const) {
      const { code, errorText } = await ecs.daemon.docker("run", "--rm", flag, "busybox", "true");
      assert.equal(code, 125, flag);
      assert.match(errorText, new RegExp(`the ecs backend does not support ${name}`));
    }
    const socket = "/var/run/docker.sock:/var/run/docker.sock";
    const mac = "02:42:ac:11:00:99";
    const unconfined = ["seccomp", "apparmor", "systempaths"].flatMap((what) => [
      "--security-opt",
      `${what}=unconfined`,
    ]);
    const flags = ["--volume", socket, "--oom-score-adj", "100", "--mac-address", mac, "--cgroupns", "host"];
    const { code, errorText } = await ecs.daemon.docker(
      ...["run", "--detach", "--name", "without", "--ipc", "none", ...flags, ...unconfined],
      ...["busybox", "sleep", "1000"],
    );
    assert.equal(code, 0, errorText);
    for (const name of [
      "host paths in --volume and --mount: /var/run/docker.sock (ecs.inner_socket: off)",
      "--ipc none",
      "--oom-score-adj",
      "--mac-address",
      "--cgroupns host",
      "--security-opt seccomp=unconfined",
      "--security-opt systempaths=unconfined",
    ]) {
      const warning = `the ecs backend does not apply ${name}`;
      assert.ok(ecs.daemon.output.includes(warning), name);
      assert.ok(errorText.includes(`WARNING: ${warning}`), name);
    }
    assert.match(errorText, /With `ecs\.inner_socket: own` a container gets one/);
    assert.equal(await inspect("{{.HostConfig.OomScoreAdj}} {{.HostConfig.IpcMode}}", "without"), "100 none");
    assert.notEqual(await inspect("{{.NetworkSettings.Networks.bridge.MacAddress}}", "without"), mac);
    await ok("rm", "--force", "without");
  });

  it("have a /dev/shm of the size that is asked for", async () => {
    const blocks = await ok(
      ...["run", "--rm", "--shm-size", "100m", "busybox", "stat", "-f", "-c", "%b %S", "/dev/shm"],
    );
    const [count = 0, size = 0] = blocks.split(" ").map(Number);
    assert.equal(count * size, 100 * 1024 ** 2);
  });

  it("are refused at their creation where no task is so large", async () => {
    for (const [flag, reason] of [
      [["--memory", "121g"], /a task has at most 16 vCPU and 120 GiB of memory/],
      [["--storage-opt", "size=201G"], /a task has at most 200 GiB of disk/],
      [["--tmpfs", "/scratch:size=much"], /invalid tmpfs size: much/],
      [["--tmpfs", "/scratch:size=1k,bad=3"], /invalid tmpfs option \["bad" "3"\]/],
    ] as const) {
      const { code, errorText } = await ecs.daemon.docker("create", "--name", "large", ...flag, "busybox");
      assert.equal(code, 1, errorText);
      assert.match(errorText, reason);
    }
    assert.equal(await ok("ps", "--all", "--quiet", "--filter", "name=large"), "");
  });

  it("have as much as the platform gives of what is to be unlimited", async () => {
    const unlimited = ["memlock", "core", "fsize"].flatMap((name) => ["--ulimit", `${name}=-1`]);
    const script = "ulimit -l; ulimit -c; ulimit -f";
    const given = await ok("run", "--rm", ...unlimited, "busybox", "sh", "-c", script);
    assert.match(given, /^(\d+|unlimited)\nunlimited\nunlimited$/);
  });

  it("leave no task behind", async () => {
    await until(() => ecs.aws.ecs.tasks.every(({ state }) => state.lastStatus === "STOPPED") || undefined);
  });

  it(
    "are refused with 500 and AWS's words where a permission or the cluster is missing",
    inSoak,
    async () => {
      await ok("create", "--name", "refused", "busybox", "true");
      for (const code of ["AccessDeniedException", "ClusterNotFoundException"]) {
        ecs.aws.faults.add({
          on: "ecs.RunTask",
          times: Infinity,
          error: { code, message: "in AWS's words" },
        });
        const { status, text } = await callApi(ecs.daemon.socket, "POST", "/containers/refused/start");
        ecs.aws.faults.clear();
        assert.equal(status, 500, text);
        assert.match(text, new RegExp(`"message":".*ecs: RunTask: in AWS's words \\(${code}\\)"`));
      }
      await ok("rm", "refused");
    },
  );
});
