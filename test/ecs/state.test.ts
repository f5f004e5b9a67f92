/** Tests of the ECS backend's records of containers, images, networks, volumes and execs, and of these in AWS. */
import assert from "node:assert/strict";
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import { DescribeAccessPointsCommand, EFSClient } from "@aws-sdk/client-efs";

import { openState, type State } from "../../src/backends/state/state.ts";
import { systemClock } from "../../src/common/clock.ts";
import { callApi } from "../support/call-api.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { until } from "../support/until.ts";

describe("the ECS backend", () => {
  const ecs = duringTests(() => EcsDaemon.start({ daemon: { args: ["--log-level", "debug"] } }));

  /** Lets a check read the state while no backend has it open. */
  async function withState(check: (state: State) => void): Promise<void> {
    await ecs.daemon.shutDown();
    const state = await openState({ directory: ecs.daemon.stateDir, clock: systemClock });
    try {
      check(state);
    } finally {
      await state.close();
    }
    await ecs.daemon.launch();
  }

  async function accessPoint(volume: string): Promise<string | undefined> {
    const client = new EFSClient(ecs.aws.clientConfig);
    const { AccessPoints = [] } = await client.send(new DescribeAccessPointsCommand({}));
    client.destroy();
    return AccessPoints.find(({ Tags }) => Tags?.some(({ Value }) => Value === volume))?.AccessPointId;
  }

  it("knows what a container, an image, a network, a volume and an exec are in AWS, and still does after a restart", async () => {
    const { daemon, aws } = ecs;
    await daemon.ok("network", "create", "--label", "of=net", "apart");
    await daemon.ok("volume", "create", "--label", "of=vol", "data");
    const options = ["--name", "kept", "--network", "apart", "--volume", "data:/data", "--label", "of=it"];
    const id = await daemon.ok("run", "--detach", ...options, "busybox", "sleep", "1000");
    const made = await callApi(daemon.socket, "POST", "/v1.51/containers/kept/exec", {
      body: { Cmd: ["sh", "-c", "exit 3"] },
    });
    const { Id: execId } = made.json() as { Id: string };
    await callApi(daemon.socket, "POST", `/v1.51/exec/${execId}/start`, { body: { Detach: true } });
    const task = aws.ecs.tasks.find(({ state }) => JSON.stringify(state.overrides).includes(id));
    const point = await accessPoint("data");
    const config = await daemon.ok("image", "inspect", "--format", "{{json .Config}}", "busybox");
    const [group] = aws.calls
      .all("ec2.CreateSecurityGroup")
      .map(({ input }) => input as { GroupName: string });

    await withState((state) => {
      const container = state.containers.get(id);
      assert.equal(container?.name, "kept");
      assert.deepEqual(container?.config?.labels, { of: "it" });
      const run = state.tasks.get(id);
      assert.equal(run?.task, task?.state.taskArn);
      assert.match(run?.address ?? "", /^\d+\.\d+\.\d+\.\d+$/);
      assert.equal(run?.agentPin.length, 32);
      const taskId = task?.state.taskArn.split("/").at(-1);
      assert.deepEqual(run?.logStreams, [`${aws.config["log_group"]}:sockerless/main/${taskId}`]);

      const { taskDefinition } = JSON.parse(run?.request ?? "{}") as { readonly taskDefinition?: string };
      assert.equal(taskDefinition, task?.state.definition.taskDefinitionArn);
      assert.ok([...state.definitions.values()].some(({ arn }) => arn === taskDefinition));

      const image = state.images.get(container?.imageId ?? "");
      assert.deepEqual(image?.names, ["docker.io/library/busybox:latest"]);
      assert.ok(
        image?.driverReference.startsWith(`${aws.account.repositoryUri}@sha256:`),
        image?.driverReference,
      );

      const network = [...state.networks.values()].find((each) => each.network?.name === "apart");
      assert.match(network?.driverReference ?? "", /^sg-/);
      assert.equal(group?.GroupName, `sockerless-net-${network?.network?.id.slice(0, 12)}`);
      assert.deepEqual(network?.network?.labels, { of: "net" });

      const volume = state.volumes.get("data");
      assert.equal(volume?.driverReference, `${aws.account.fileSystem.fileSystemId}/${point}`);
      assert.deepEqual(volume?.labels, { of: "vol" });
      assert.ok(volume?.created, "a time");
      assert.equal(volume?.mountpoint, "/var/lib/docker/volumes/data/_data");

      assert.equal(state.execs.get(execId)?.containerId, id);
    });

    aws.calls.clear();
    assert.equal(await daemon.ok("exec", "kept", "sh", "-c", "ls -d /data"), "/data");
    assert.equal(await daemon.ok("image", "inspect", "--format", "{{json .Config}}", "busybox"), config);
    const exec = await callApi(daemon.socket, "GET", `/v1.51/exec/${execId}/json`);
    assert.equal((exec.json() as { ExitCode: number }).ExitCode, 3);
    for (const remade of ["ecs.RunTask", "efs.CreateAccessPoint", "ec2.CreateSecurityGroup"]) {
      assert.equal(aws.calls.count(remade), 0, remade);
    }
    await daemon.ok("rm", "--force", "kept");
    await daemon.ok("network", "rm", "apart");
    await daemon.ok("volume", "rm", "data");
  });

  it("has containers run on while its authority is another one, and has them again behind that", async () => {
    const { aws, daemon, directory } = ecs;
    const command = ["busybox", "sh", "-c", "echo written >/file; exec sleep 1000"];
    const taskOf = async (name: string) => {
      const id = await daemon.ok("run", "--detach", "--name", name, ...command);
      return aws.ecs.tasks.find(({ state }) => JSON.stringify(state.overrides).includes(id))?.state.taskArn;
    };
    const [kept, removed] = [await taskOf("kept"), await taskOf("removed")];
    const written = async () => (await daemon.docker("exec", "kept", "cat", "/file")).text;
    await until(async () => (await written()) || undefined);
    const state = () => daemon.ok("inspect", "--format", "{{.State.Status}} {{.State.StartedAt}}", "kept");
    const before = await state();
    const authority = join(directory, "agent-ca.pem");
    aws.calls.clear();
    await daemon.shutDown();
    await rename(authority, `${authority}.aside`);
    const since = daemon.output.length;
    await daemon.launch();
    const told = /the agent of a container (cannot be reached, and may live|is gone)/;
    await until(async () => told.test(daemon.output.slice(since)) || (await state()) !== before || undefined);
    assert.equal(await state(), before);
    await daemon.ok("rm", "--force", "removed");
    await daemon.shutDown();
    await rename(`${authority}.aside`, authority);
    await daemon.launch();
    assert.equal(await state(), before);
    assert.equal(await written(), "written");
    // Not their number: a lost answer is asked for again, and an earlier test's container may still be cleared away.
    const stopped = aws.calls.all("ecs.StopTask").map(({ input }) => (input as { task: string }).task);
    assert.deepEqual([stopped.includes(kept ?? ""), stopped.includes(removed ?? "")], [false, true]);
    await daemon.ok("rm", "--force", "kept");
  });

  it("logs what AWS is asked with AWS's request IDs", async () => {
    const { daemon, aws } = ecs;
    await daemon.ok("run", "--rm", "busybox", "true");
    const lines = daemon.output
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Readonly<Record<string, unknown>>);
    const [asked] = aws.calls.all("ecs.RunTask").slice(-1);
    const told = lines.find(({ requestId }) => requestId === asked?.requestId);
    assert.deepEqual([told?.["service"], told?.["operation"]], ["ecs", "RunTask"]);
    assert.equal(typeof told?.["durationMs"], "number");
  });
});
