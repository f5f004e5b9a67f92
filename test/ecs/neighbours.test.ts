import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import {
  DescribeTaskDefinitionCommand,
  DescribeTasksCommand,
  ECSClient,
  ListTasksCommand,
} from "@aws-sdk/client-ecs";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";

import { createAgentClient } from "../../src/agent-client/client.ts";
import { createAuthority } from "../../src/backends/cloud/authority/authority.ts";
import { readAuthority } from "../../src/backends/cloud/authority/authority-file.ts";
import { type Clock, systemClock } from "../../src/common/clock.ts";
import { newId } from "../../src/common/ids.ts";
import { ManualClock } from "../../src/common/manual-clock.ts";
import type { SessionRequestSchema } from "../../src/gen/sockerless/agent/v1/agent_pb.ts";
import type { Visit } from "../support/agent-visitor.ts";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { duringTests } from "../support/during-tests.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { until } from "../support/until.ts";

const agentPort = 9111;

/** Knocks at an agent's port from the network of a task, with what is shown. */
async function knock(
  pid: number,
  host: string,
  shown: { readonly key?: string; readonly cert?: string },
): Promise<Visit> {
  const visitor = join(checkout, "dist/test/support/agent-visitor.js");
  const { text, errorText } = await runCommand(
    "nsenter",
    [`--net=/proc/${pid}/ns/net`, process.execPath, visitor],
    {
      input: JSON.stringify({ host, port: agentPort, ...shown }),
    },
  );
  assert.notEqual(text, "", errorText);
  return JSON.parse(text) as Visit;
}

describe("who is near a container in the cloud", () => {
  const under = duringTests(() => EcsDaemon.start());
  let address: string;
  let id: string;
  let neighbour: { readonly id: string; readonly pid: number; readonly address: string };

  before(async () => {
    const { daemon } = under;
    const secret = ["--env", "PASSWORD=swordfish"];
    id = (
      await daemon.ok("run", "--detach", "--name", "victim", ...secret, "busybox", "sleep", "1000")
    ).trim();
    const neighbourId = await daemon.ok("run", "--detach", "--name", "neighbour", "busybox", "sleep", "1000");
    const format = '{{index .NetworkSettings.Networks.bridge.DriverOpts "com.sockerless.address"}}';
    address = await daemon.ok("inspect", "--format", format, "victim");
    const ofNeighbour = under.aws.ecs.tasks.find(({ state }) =>
      JSON.stringify(state.overrides).includes(neighbourId),
    );
    // Its agent may answer before the runtime has told its process.
    const pid = await until(() => ofNeighbour?.pids.get("main") || undefined);
    neighbour = {
      id: neighbourId,
      pid,
      address: await daemon.ok("inspect", "--format", format, "neighbour"),
    };
  });

  /** A certificate for a container, of this instance's authority or of another, issued at a time. */
  async function certificate(
    forContainer: string,
    authorityFile = "agent-ca.pem",
    clock: Clock = systemClock,
  ) {
    const authority = await createAuthority(await readAuthority(join(under.directory, authorityFile)), clock);
    const { key, certificateChain } = await authority.credentialsFor(forContainer);
    return { key, cert: certificateChain };
  }

  it("is not admitted by an agent from a neighbour's network, and the agent's log says why", async () => {
    // The way is open to whoever has the right certificate: what follows is refused by the agent and nobody else.
    assert.equal((await knock(neighbour.pid, address, await certificate(id))).outcome, "admitted");
    const longAgo = new ManualClock(Date.now() - 24 * 60 * 60_000);
    for (const [shown, reason] of [
      [{}, "client didn't provide a certificate"],
      [await certificate(neighbour.id), `not for sockerless://container/${id}`],
      [await certificate(id, "agent-ca.pem", longAgo), "certificate has expired"],
    ] as const) {
      assert.equal((await knock(neighbour.pid, address, shown)).outcome, "refused", reason);
      await until(() => refusals().some((line) => line.includes(reason)) || undefined);
    }
    assert.equal(refusals().length, 3);
  });

  /** Lines that agents have logged of clients from the neighbour's address. */
  function refusals(): string[] {
    return under.aws
      .logged()
      .filter(
        (line) => line.includes("a client was refused") && line.includes(`remote=${neighbour.address}:`),
      );
  }

  it("learns nothing that helps from what the control plane shows", async () => {
    const client = new ECSClient(under.aws.clientConfig);
    const cluster = under.aws.account.cluster;
    const { taskArns } = await client.send(new ListTasksCommand({ cluster }));
    const { tasks = [] } = await client.send(new DescribeTasksCommand({ cluster, tasks: taskArns ?? [] }));
    const definitions = await Promise.all(
      [...new Set(tasks.map((task) => task.taskDefinitionArn))].map((taskDefinition) =>
        client.send(new DescribeTaskDefinitionCommand({ taskDefinition })),
      ),
    );
    const shown = JSON.stringify([tasks, definitions]);
    assert.ok(shown.includes(id), "the task is among them");
    for (const secret of [
      "swordfish",
      "sleep",
      "PRIVATE KEY",
      readFileSync(join(under.directory, "agent-ca.pem"), "utf8"),
    ]) {
      assert.ok(!shown.includes(secret), secret.slice(0, 20));
    }
    client.destroy();
    // A neighbour has the container's ID, the agent's address and its key, and an authority of its own.
    const forged = await certificate(id, "forged.pem");
    const { outcome, publicKey } = await knock(neighbour.pid, address, forged);
    assert.equal(outcome, "refused");
    const pin = createHash("sha256").update(Buffer.from(publicKey, "base64")).digest();
    const credentials = { key: forged.key, certificateChain: forged.cert };
    const agent = createAgentClient(
      { kind: "tcp", host: address, port: agentPort, pin },
      { containerId: id, credentials },
    );
    const exec = agent.client.session(openExec(), { timeoutMs: 120_000 });
    await assert.rejects(exec[Symbol.asyncIterator]().next(), { code: Code.Unavailable });
    agent.close();
  });
});

async function* openExec(): AsyncGenerator<MessageInitShape<typeof SessionRequestSchema>> {
  const value = { execId: newId(), process: { args: ["touch", "/was-here"] } };
  yield { message: { case: "openExec", value } };
}
