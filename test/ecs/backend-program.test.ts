/** The ECS backend by its own name, alone before an account in which no task runs: how it starts, and how it ends. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { version } from "../../src/common/version.ts";
import { startAws } from "../simulators/aws/aws.ts";
import { checkout } from "../support/daemon.ts";
import { callApi } from "../support/call-api.ts";
import { duringTests } from "../support/during-tests.ts";
import { listenHere } from "../support/listen-here.ts";
import { LoneProgram } from "../support/lone-program.ts";
import { until, untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const hour = 3_600_000;

describe("sockerless-backend-ecs", () => {
  const directory = scratchDirectory();
  const socket = join(directory, "backend.sock");
  const aws = duringTests(() => startAws({ lightweight: true }));

  before(async () => {
    const ecs = { ...aws.config, agent_ca: join(directory, "agent-ca.pem") };
    await writeFile(join(directory, "config.yaml"), JSON.stringify({ ecs }));
  });

  /** Starts it with these variables and none of the user's for AWS. */
  function start(credentials: Readonly<Record<string, string>>, state = "state"): Promise<LoneProgram> {
    const others = Object.entries(process.env).filter(([name]) => !name.startsWith("AWS_"));
    const nothing = { AWS_CONFIG_FILE: "/dev/null", AWS_SHARED_CREDENTIALS_FILE: "/dev/null" };
    return LoneProgram.start(
      join(checkout, "bin/sockerless-backend-ecs"),
      [
        ...["--config", join(directory, "config.yaml"), "--listen", `unix://${socket}`],
        ...["--state-dir", join(directory, state), "--run-dir", join(directory, "run")],
      ],
      { ...Object.fromEntries(others), ...nothing, ...credentials },
    );
  }
  /** Principal that has asked AWS for its identity, once somebody has. */
  const caller = () => until(() => aws.calls.all("sts.GetCallerIdentity").at(-1)?.principal || undefined);

  it("serves the contract on its socket", async () => {
    await using program = await start(aws.environmentFor());
    assert.equal(program.readyLine, `sockerless backend ecs listens on unix://${socket}`);
    const path =
      "/sockerless.backend.v1.SystemService/GetCapabilities?connect=v1&encoding=json&message=%7B%7D";
    const { status, json } = await callApi(socket, "GET", path);
    assert.equal(status, 200);
    const answer = json() as { readonly capabilities: Readonly<Record<string, unknown>> };
    const { max_timeout_seconds, agent_required, ...can } = answer.capabilities;
    assert.deepEqual([max_timeout_seconds, agent_required], [0, true]);
    assert.deepEqual(
      { ...answer, capabilities: can },
      {
        backend: "ecs",
        version,
        capabilities: {
          ...{ exec: true, attach: true, logs: true, logs_follow: true, volumes: true },
          ...{ networks: true, health_checks: true, image_pull: true, image_load: true },
        },
      },
    );
    for (const name of ["state", "run"]) {
      assert.equal((await stat(join(directory, name))).mode & 0o777, 0o700, name);
    }
    assert.equal(await program.end(), 0);
    await assert.rejects(stat(join(directory, "run")), { code: "ENOENT" });
  });

  it("takes the credentials of a profile", async () => {
    const { accessKeyId, secretAccessKey } = aws.iam.addUser("of-a-profile", []);
    const file = join(directory, "credentials");
    await writeFile(
      file,
      `[default]\naws_access_key_id = AKIAWRONG\naws_secret_access_key = x\n[work]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`,
    );
    aws.calls.clear();
    await using _program = await start({ AWS_SHARED_CREDENTIALS_FILE: file, AWS_PROFILE: "work" });
    assert.match(await caller(), /user\/of-a-profile$/);
  });

  it("takes the credentials of the task that it runs in", async () => {
    const { accessKeyId, secretAccessKey } = aws.iam.addUser("of-a-task", []);
    const provider = createServer((request, response) => {
      const Expiration = new Date(Date.now() + hour).toISOString();
      const isAllowed = request.headers.authorization === "open sesame";
      response.writeHead(isAllowed ? 200 : 403, { "Content-Type": "application/json" });
      const keys = { AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey, Token: "token", Expiration };
      response.end(JSON.stringify(isAllowed ? keys : {}));
    });
    const port = await listenHere(provider);
    aws.calls.clear();
    try {
      await using _program = await start({
        AWS_CONTAINER_CREDENTIALS_FULL_URI: `http://127.0.0.1:${port}/task`,
        AWS_CONTAINER_AUTHORIZATION_TOKEN: "open sesame",
      });
      assert.match(await caller(), /user\/of-a-task$/);
    } finally {
      provider.closeAllConnections();
      provider.close();
    }
  });

  it("serves without credentials, and says once what to set", async () => {
    await using program = await start({ AWS_EC2_METADATA_DISABLED: "true" }, "state-of-nobody");
    const alarms = (): string[] =>
      program.output.split("\n").filter((line) => /"level":"(warn|error|fatal)"/.test(line));
    await until(() => alarms()[0]);
    assert.equal(await program.end(), 0);
    assert.equal(alarms().length, 1, program.output);
    assert.match(
      alarms()[0] ?? "",
      /set AWS_PROFILE .* or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run/,
    );
  });

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it(`answers a call under way after ${signal}, takes no others, and ends well`, async () => {
      await using program = await start(aws.environmentFor());
      const arrived = Promise.withResolvers<void>();
      aws.faults.add({
        on: "efs.CreateAccessPoint",
        where: () => {
          arrived.resolve();
          return true;
        },
        delayMs: hour,
      });
      const name = signal.toLowerCase();
      const creating = callApi(socket, "POST", "/sockerless.backend.v1.VolumeService/CreateVolume", {
        body: { name },
      });
      await arrived.promise;
      const ended = program.end(signal);
      await untilTrue(() => refusesConnections(socket));
      aws.clock.advance(hour);
      const created = await creating;
      assert.equal(created.status, 200, created.text);
      assert.match(created.text, new RegExp(`"${name}"`));
      assert.equal(await ended, 0);
    });
  }
});

async function refusesConnections(path: string): Promise<boolean> {
  const connection = connect(path);
  try {
    await once(connection, "connect");
    return false;
  } catch {
    return true;
  } finally {
    connection.destroy();
  }
}
