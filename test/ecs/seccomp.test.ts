/** Seccomp profiles that agents load: wherever and whenever their container's process is started. */
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { before, describe, it } from "node:test";

import { ECSClient, StopTaskCommand } from "@aws-sdk/client-ecs";

import { callApi } from "../support/call-api.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { denied, tryDenied, writeSeccompProfile } from "../support/seccomp-profile.ts";
import { inSoak } from "../support/soak.ts";
import { until } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

describe("a task's seccomp profile", () => {
  const ecs = duringTests(() => EcsDaemon.start());
  const directory = scratchDirectory();
  let options: string[];

  before(async () => {
    const profile = await writeSeccompProfile(directory);
    options = ["--security-opt", "no-new-privileges", "--security-opt", `seccomp=${profile}`];
  });

  const ok = (...args: string[]): Promise<string> => ecs.daemon.ok(...args);

  /** The last lines that a container has written. */
  const said = (name: string): Promise<string> => ok("logs", "--tail", "4", name);

  it("holds after a restart in the same task, and in a new one", inSoak, async () => {
    // On the same stream as the rest: lines of two streams have no order.
    const script = `cat /mark 2>&1; echo here > /mark; ${tryDenied}`;
    const id = await ok("create", "--name", "again", ...options, "busybox", "sh", "-c", script);
    const tasks = () => ecs.aws.ecs.tasks.filter(({ state }) => JSON.stringify(state.overrides).includes(id));
    for (let start = 0; start < 2; start++) {
      await ok("start", "again");
      assert.equal(await ok("wait", "again"), "1");
      assert.match(await said("again"), denied);
    }
    assert.equal(tasks().length, 1);
    const client = new ECSClient(ecs.aws.clientConfig);
    const [task] = tasks();
    await client.send(new StopTaskCommand({ cluster: "sockerless", task: task?.state.taskArn }));
    client.destroy();
    await task?.finished;
    await until(async () => {
      const { errorText } = await ecs.daemon.docker("cp", "again:/mark", "-");
      return errorText.includes("(ecs.linger)") || undefined;
    });
    await ok("start", "again");
    assert.equal(await ok("wait", "again"), "1");
    assert.equal(tasks().length, 2);
    assert.match(await said("again"), denied);
    await ok("rm", "again");
  });

  it("is known to a backend that has lost its state, and holds for what starts then", inSoak, async () => {
    const script = `${tryDenied}; exec sleep 1000`;
    const id = await ok("run", "--detach", "--name", "lasting", ...options, "busybox", "sh", "-c", script);
    const { daemon } = ecs;
    await daemon.shutDown();
    await rm(daemon.stateDir, { recursive: true });
    await daemon.launch();
    const status = ["inspect", "--format", "{{.State.Status}}", id];
    await until(async () => (await ok(...status)) === "running" || undefined);
    assert.match(await ok("inspect", "--format", "{{json .HostConfig.SecurityOpt}}", id), /SCMP_ACT_ALLOW/);
    const exec = await daemon.docker("exec", "lasting", "sh", "-c", tryDenied);
    assert.match(exec.stdout.toString().trimEnd(), denied);
    await ok("restart", "--time", "0", "lasting");
    assert.match(await said("lasting"), denied);
    await ok("rm", "--force", "lasting");
  });

  it("is no part of an image that is committed", async () => {
    await ok("run", "--name", "origin", ...options, "busybox", "true");
    await ok("commit", "origin", "free:1");
    await ok("rm", "origin");
    assert.equal(await ok("run", "--rm", "free:1", "sh", "-c", "mkdir /made && echo made"), "made");
    await ok("rmi", "free:1");
  });

  it("is refused by name where the kernel would not let the agent load it, or nobody can listen: 501", async () => {
    const profile = await writeSeccompProfile(directory);
    const alone = await ecs.daemon.docker("create", "--security-opt", `seccomp=${profile}`, "busybox");
    assert.equal(alone.code, 1);
    assert.match(alone.errorText, /does not support --security-opt seccomp=PROFILE \(without no-new-priv/);
    for (const listening of [{ defaultAction: "SCMP_ACT_NOTIFY" }, { listenerPath: "/run/listener" }]) {
      const body = {
        Image: "busybox",
        HostConfig: { SecurityOpt: ["no-new-privileges", `seccomp=${JSON.stringify(listening)}`] },
      };
      const { status, text } = await callApi(ecs.daemon.socket, "POST", "/containers/create", { body });
      assert.equal(status, 501, text);
      assert.match(text, /SCMP_ACT_NOTIFY, listenerPath/);
    }
  });

  it("is refused in runc's words where runc would not take it: 400", async () => {
    const body = {
      Image: "busybox",
      HostConfig: { SecurityOpt: ["no-new-privileges", 'seccomp={"defaultAction":"SCMP_ACT_JOKE"}'] },
    };
    const { status, text } = await callApi(ecs.daemon.socket, "POST", "/containers/create", { body });
    assert.equal(status, 400, text);
    assert.match(text, /string SCMP_ACT_JOKE is not a valid action for seccomp/);
  });
});
