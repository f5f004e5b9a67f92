/**
 * Starts in an account where things go wrong: what was there is gone, what was told is lost, what is asked is refused. Those
 * that wait for a time limit with SOCKERLESS_SOAK=1.
 */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";

import {
  DeleteTaskDefinitionsCommand,
  DeregisterTaskDefinitionCommand,
  ECSClient,
  ListTaskDefinitionsCommand,
} from "@aws-sdk/client-ecs";

import { callApi } from "../support/call-api.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { until, untilTrue } from "../support/until.ts";
import { allLag } from "../simulators/aws/switches.ts";
import { inSoak } from "../support/soak.ts";

describe("a start", () => {
  const ecs = duringTests(() => EcsDaemon.start({ ecs: { linger: "1s", log_drain_max: "64" } }));
  const sdk = duringTests(async () => new ECSClient(ecs.aws.clientConfig));
  beforeEach(() => ecs.aws.calls.clear());
  afterEach(() => ecs.aws.faults.clear());

  const ok = (...args: string[]): Promise<string> => ecs.daemon.ok(...args);
  const definitions = async (): Promise<readonly string[]> =>
    (await sdk.send(new ListTaskDefinitionsCommand({}))).taskDefinitionArns ?? [];

  it("registers its task definition anew where somebody has deregistered or deleted it", inSoak, async () => {
    await ok("run", "--rm", "busybox", "true");
    const deregister = async (): Promise<void> => {
      for (const taskDefinition of await definitions()) {
        await sdk.send(new DeregisterTaskDefinitionCommand({ taskDefinition }));
      }
    };
    await deregister();
    assert.equal(await ok("run", "--rm", "busybox", "echo", "deregistered"), "deregistered");
    const taskDefinitions = [...(await definitions())];
    await deregister();
    await sdk.send(new DeleteTaskDefinitionsCommand({ taskDefinitions }));
    ecs.aws.clock.advance(120_000); // Until nothing is known of them.
    assert.equal(await ok("run", "--rm", "busybox", "echo", "deleted"), "deleted");
    assert.equal(await ok("run", "--rm", "busybox", "echo", "again"), "again");
  });

  it("registers its task definition once, also where the answer is lost", async () => {
    ecs.aws.faults.add({ on: "ecs.RegisterTaskDefinition", cut: "after" });
    const own = ["--sysctl", "net.core.somaxconn=1234"];
    assert.equal(await ok("run", "--rm", ...own, "busybox", "echo", "once"), "once");
    assert.equal(ecs.aws.calls.count("ecs.RegisterTaskDefinition"), 1);
  });

  it("goes on once AWS is back, and says in the log what it waits for", async () => {
    const told = ecs.daemon.output.length;
    ecs.aws.faults.add({
      on: "ecs",
      times: Infinity,
      error: { code: "ServerException", message: "down", status: 500 },
    });
    const run = ok("run", "--rm", "busybox", "echo", "back");
    const waits = /a container waits to be started: ecs: \w+: down \(ServerException\)/;
    await until(() => waits.test(ecs.daemon.output.slice(told)) || undefined);
    ecs.aws.faults.clear();
    assert.equal(await run, "back");
    assert.equal(ecs.aws.calls.all("ecs.RunTask").filter(({ error }) => error === undefined).length, 1);
  });

  it("waits while there is no room for its network interface, and is one task that runs in the end", async () => {
    const { quotas } = ecs.aws;
    const { networkInterfaces } = quotas;
    const before = ecs.aws.ecs.tasks.length;
    quotas.networkInterfaces = 0;
    try {
      const run = ok("run", "--name", "patient", "busybox", "echo", "at last");
      const waits = /a container waits to be started: [^"]*NetworkInterfaceLimitExceeded/;
      await until(() => waits.test(ecs.daemon.output) || undefined);
      await until(
        async () =>
          /NetworkInterfaceLimitExceeded/.test(
            await ok("inspect", "--format", "{{.State.Error}}", "patient"),
          ) || undefined,
      );
      await until(() => ecs.aws.ecs.tasks.length >= before + 2 || undefined);
      quotas.networkInterfaces = networkInterfaces;
      assert.equal(await run, "at last");
    } finally {
      quotas.networkInterfaces = networkInterfaces;
    }
    const tokens = ecs.aws.calls
      .all("ecs.RunTask")
      .map(({ input }) => (input as { readonly clientToken: string }).clientToken);
    assert.equal(new Set(tokens).size, ecs.aws.ecs.tasks.length - before, "each task has a token of its own");
    assert.equal(await ok("logs", "patient"), "at last");
    await ok("rm", "patient");
  });

  it("fails with AWS's refusal to tell of its task, and leaves no task behind", async () => {
    const message = "is not authorized to perform: ecs:DescribeTasks";
    ecs.aws.faults.add({
      on: "ecs.DescribeTasks",
      times: Infinity,
      error: { code: "AccessDeniedException", message, status: 400 },
    });
    const { code, errorText } = await ecs.daemon.docker("run", "--rm", "busybox", "true");
    assert.equal(code, 125);
    assert.match(
      errorText,
      /DescribeTasks: is not authorized to perform: ecs:DescribeTasks \(AccessDeniedException\)/,
    );
    assert.doesNotMatch(errorText, /start_timeout/);
    ecs.aws.faults.clear();
    await until(() => ecs.aws.ecs.tasks.every(({ state }) => state.desiredStatus === "STOPPED") || undefined);
  });
});

describe("a start that AWS fails for all of its time", inSoak, () => {
  const ecs = duringTests(() => EcsDaemon.start({ ecs: { start_timeout: "15s", linger: "1s" } }));

  afterEach(() => ecs.aws.faults.clear());

  it("ends with what AWS has said last where it does not come back in time", async () => {
    ecs.aws.faults.add({
      on: "ecs.RunTask",
      times: Infinity,
      error: { code: "ServerException", message: "down", status: 500 },
    });
    const { code, errorText } = await ecs.daemon.docker("run", "--rm", "busybox", "true");
    assert.equal(code, 125);
    assert.match(errorText, /within 15 s \(ecs\.start_timeout\): .*RunTask: down \(ServerException\)/);
  });

  it("that nothing makes room for ends with AWS's words and 503", async () => {
    const reason =
      "Unexpected EC2 error while attempting to Create Network Interface in subnet 'subnet-1': InsufficientFreeAddressesInSubnet";
    let isFull = true;
    ecs.aws.ecs.failStarts({ kind: "interface", times: Infinity, reason, where: () => isFull });
    const id = await ecs.daemon.ok("create", "busybox", "true");
    const { status, text } = await callApi(ecs.daemon.socket, "POST", `/v1.51/containers/${id}/start`);
    isFull = false;
    assert.equal(status, 503);
    assert.ok(text.includes(`failed to start a task for the container: ${reason}`), text);
    assert.match(text, /for 15 s \(ecs\.start_timeout\) no task has run/);
    await ecs.daemon.ok("rm", id);
  });
});

describe("a stored log", () => {
  it("that AWS refuses says why: at once, and where a part of it was read", inSoak, async () => {
    await using ecs = await EcsDaemon.start({ ecs: { linger: "1s", log_drain_max: "64" } });
    const count = 10_001; // More than a page of CloudWatch's.
    await ecs.daemon.ok("run", "--detach", "--name", "loud", "busybox", "seq", `${count}`);
    await ecs.daemon.ok("wait", "loud");
    const lines = async (): Promise<number> => (await ecs.daemon.ok("logs", "loud")).split("\n").length;
    await untilTrue(async () => ecs.aws.ecs.tasks.every(({ state }) => state.lastStatus === "STOPPED"));
    assert.equal(await lines(), count);
    const error = {
      code: "AccessDeniedException",
      message: "not authorized to perform: logs:GetLogEvents",
      status: 400,
    };
    const refused =
      "the log is not to be had, because logs: GetLogEvents: not authorized to perform: logs:GetLogEvents (AccessDeniedException)";

    ecs.aws.faults.add({ on: "logs.GetLogEvents", times: Infinity, error });
    const none = await ecs.daemon.docker("logs", "loud");
    assert.deepEqual(
      [none.code, none.text, none.errorText],
      [1, "", `Error response from daemon: ${refused}`],
    );
    ecs.aws.faults.clear();

    const isLater = (input: unknown): boolean => (input as { nextToken?: string }).nextToken !== undefined;
    ecs.aws.faults.add({ on: "logs.GetLogEvents", times: Infinity, error, where: isLater });
    const part = await ecs.daemon.docker("logs", "loud");
    assert.equal(part.code, 1);
    assert.match(part.text, /^1\n2\n/);
    assert.ok(part.errorText.includes(`Error grabbing logs: ${refused}`), part.errorText);
  });
});

describe("a network", inSoak, () => {
  it("is made of its group where the answer was lost and EC2 shows the group late", async () => {
    await using ecs = await EcsDaemon.start({ aws: { switches: { eventualConsistencyMs: allLag(2_000) } } });
    ecs.aws.faults.add({ on: "ec2.CreateSecurityGroup", cut: "after" });
    await ecs.daemon.ok("network", "create", "late");
    const groups = ecs.aws.services.network.groups.all().filter(({ tags }) => "sockerless-network" in tags);
    assert.equal(groups.length, 1);
    await ecs.daemon.ok("network", "rm", "late");
  });
});
