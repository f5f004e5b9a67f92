import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connect, type ConnectionOptions } from "node:tls";
import { after, before, describe, it } from "node:test";

import { CloudWatchLogsClient, FilterLogEventsCommand } from "@aws-sdk/client-cloudwatch-logs";
import {
  DescribeTaskDefinitionCommand,
  DescribeTasksCommand,
  ECSClient,
  ListTasksCommand,
} from "@aws-sdk/client-ecs";

import { createAuthority } from "../../src/backends/common/cloud/authority.ts";
import { readAuthority } from "../../src/backends/common/cloud/authority-file.ts";
import { systemClock } from "../../src/common/clock.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { until } from "../support/until.ts";

const agentPort = 9111;

/** Whether an agent speaks HTTP/2 with a client that shows this. */
function isAdmitted(host: string, shown: Pick<ConnectionOptions, "key" | "cert">): Promise<boolean> {
  return new Promise((resolve) => {
    const options = { minVersion: "TLSv1.3", ALPNProtocols: ["h2"], rejectUnauthorized: false } as const;
    const socket = connect({ host, port: agentPort, ...options, ...shown }, () => {
      socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"); // Preface and empty settings.
    });
    socket.once("data", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => {});
    socket.once("close", () => resolve(false));
  });
}

describe("who is near a container in the cloud", () => {
  let under: EcsDaemon;
  let address: string;
  let id: string;
  let ownCertificate: { readonly key: string; readonly cert: string };

  before(async () => {
    under = await EcsDaemon.start();
    const { daemon } = under;
    await daemon.ok("load", "--input", await busyboxArchiveFile());
    const secret = ["--env", "PASSWORD=swordfish"];
    id = (
      await daemon.ok("run", "--detach", "--name", "victim", ...secret, "busybox", "sleep", "1000")
    ).trim();
    await daemon.ok("run", "--detach", "--name", "neighbour", "busybox", "sleep", "1000");
    const format = '{{index .NetworkSettings.Networks.bridge.DriverOpts "com.sockerless.address"}}';
    address = (await daemon.ok("inspect", "--format", format, "victim")).trim();
    const authority = await createAuthority(
      await readAuthority(join(under.directory, "agent-ca.pem")),
      systemClock,
    );
    const { key, certificateChain } = await authority.credentialsFor(id);
    ownCertificate = { key, cert: certificateChain };
  });
  after(async () => {
    await under?.stop();
  });

  it("is not admitted by an agent from a neighbour's network, and the agent's log says so", async () => {
    const { daemon } = under;
    assert.equal(await isAdmitted(address, ownCertificate), true);
    assert.equal(await isAdmitted(address, {}), false);
    const asked = await daemon.docker(
      "exec",
      "neighbour",
      "sh",
      "-c",
      `echo hello | nc -w 5 ${address} ${agentPort}`,
    );
    assert.equal(asked.text, "");
    const logs = new CloudWatchLogsClient(under.aws.clientConfig);
    const refusals = await until(async () => {
      const { events = [] } = await logs.send(
        new FilterLogEventsCommand({ logGroupName: under.aws.account.logGroup, filterPattern: "refused" }),
      );
      return events.length >= 2 ? events.map(({ message }) => message) : undefined;
    });
    assert.ok(
      refusals.every((line) => line?.includes("a client was refused")),
      refusals.join("\n"),
    );
    logs.destroy();
  });

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
  });
});
