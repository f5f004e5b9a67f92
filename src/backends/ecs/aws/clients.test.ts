import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { ECRClient } from "@aws-sdk/client-ecr";
import { ListTasksCommand } from "@aws-sdk/client-ecs";
import { GetServiceQuotaCommand } from "@aws-sdk/client-service-quotas";

import { systemClock } from "../../../common/clock.ts";
import { capturedLogger } from "../../cloud/testing/captured-logger.ts";
import { type AwsClients, createAwsClients } from "./clients.ts";
import { isAwsError } from "./errors.ts";
import { listenHere } from "../../../../test/support/listen-here.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";

describe("clients of registries in other regions", () => {
  it("are kept for as many regions as are used at once", (context) => {
    const destroyed = context.mock.method(ECRClient.prototype, "destroy");
    const { logger } = capturedLogger();
    const aws = createAwsClients({
      region: "eu-west-1",
      endpoint: undefined,
      rates: {},
      clock: systemClock,
      logger,
    });
    for (let n = 0; n < 100; n++) {
      aws.ecrIn(`xx-made-up-${n}`);
      aws.ecrIn("eu-west-1");
      aws.ecrIn("us-east-1");
    }
    assert.equal(destroyed.mock.callCount(), 101 - 32);
    aws.close();
    assert.equal(destroyed.mock.callCount(), 102, "each once");
  });
});

describe("credentials of a file, whose session token tells nobody when it expires", () => {
  /** Keys that have signed calls, in their order. */
  const signed: string[] = [];
  const expired = new Set<string>();
  const server = createServer((request, response) => {
    const [, key = ""] = /Credential=([^/]+)/.exec(request.headers.authorization ?? "") ?? [];
    signed.push(key);
    request.resume();
    response.setHeader("content-type", "application/x-amz-json-1.1");
    if (expired.has(key)) {
      response.statusCode = 400;
      response.end(JSON.stringify({ __type: "ExpiredTokenException", message: "The token has expired" }));
      return;
    }
    response.end("{}");
  });
  const folder = scratchDirectory();
  let aws: AwsClients;

  const give = (key: string): Promise<void> =>
    writeFile(
      join(folder, "credentials"),
      `[default]\naws_access_key_id = ${key}\naws_secret_access_key = s\naws_session_token = t\n`,
    );
  const list = (): Promise<unknown> => aws.ecs.send(new ListTasksCommand({}));

  before(async () => {
    process.env["AWS_SHARED_CREDENTIALS_FILE"] = join(folder, "credentials");
    process.env["AWS_CONFIG_FILE"] = join(folder, "none");
    process.env["AWS_PROFILE"] = "default"; // Keys of the environment are none of the test's.
    const port = await listenHere(server);
    aws = createAwsClients({
      region: "eu-west-1",
      endpoint: `http://127.0.0.1:${port}`,
      rates: {},
      clock: systemClock,
      logger: capturedLogger().logger,
    });
  });
  after(async () => {
    aws.close();
    server.closeAllConnections();
    server.close();
  });

  it("are read again once AWS says that they have expired, by every service", async () => {
    await give("FIRST");
    await list();
    await aws.serviceQuotas.send(new GetServiceQuotaCommand({ ServiceCode: "a", QuotaCode: "b" }));
    expired.add("FIRST");
    await assert.rejects(list(), (error) => isAwsError(error, "ExpiredTokenException"));
    await give("SECOND"); // Between two tries of a start.
    await list();
    await aws.serviceQuotas.send(new GetServiceQuotaCommand({ ServiceCode: "a", QuotaCode: "b" }));
    await list();
    assert.deepEqual(signed.slice(-1), ["SECOND"]);
    expired.add("SECOND");
    await give("THIRD");
    await Promise.all([list(), list()]);
    assert.deepEqual(signed.slice(-1), ["THIRD"]);
  });
});
