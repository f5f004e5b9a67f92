import assert from "node:assert/strict";
import { createServer } from "node:http";
import { describe, it, type TestContext } from "node:test";

import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

import { connectionsTo } from "./connections.ts";
import { listenDuring } from "../../../../test/support/listen-here.ts";

/** A server that notes what it is asked, and answers nothing that the SDK understands. */
async function listen(t: TestContext): Promise<{ readonly port: number; readonly asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? "");
    response.writeHead(400).end();
  });
  server.on("connect", (request, connection) => {
    asked.push(request.url ?? "");
    connection.end("HTTP/1.1 403 Forbidden\r\n\r\n");
  });
  const port = await listenDuring(t, server);
  return { port, asked };
}

describe("a call of AWS", () => {
  // Another name of this machine: one that is not told by its address.
  const elsewhere = "0.0.0.0";

  for (const [what, host, noProxy, isProxied] of [
    ["goes through the environment's proxy", elsewhere, "", true],
    ["goes straight to whom NO_PROXY names", elsewhere, elsewhere, false],
    ["goes straight to an endpoint on this machine", "127.0.0.1", "", false],
  ] as const) {
    it(what, async (t) => {
      const aws = await listen(t);
      const proxy = await listen(t);
      const endpoint = `http://${host}:${aws.port}`;
      const client = new STSClient({
        region: "us-east-1",
        endpoint,
        credentials: { accessKeyId: "a", secretAccessKey: "b" },
        maxAttempts: 1,
        requestHandler: connectionsTo(endpoint, {
          HTTP_PROXY: `http://127.0.0.1:${proxy.port}`,
          NO_PROXY: noProxy,
        }),
      });
      t.after(() => client.destroy());
      await assert.rejects(client.send(new GetCallerIdentityCommand({})));
      assert.deepEqual(proxy.asked, isProxied ? [`${endpoint}/`] : []);
      assert.deepEqual(aws.asked, isProxied ? [] : ["/"]);
    });
  }

  const dualStack = "AWS_USE_DUALSTACK_ENDPOINT";
  for (const [region, host, setting] of [
    ["eu-central-1", "sts.eu-central-1.amazonaws.com"],
    ["cn-north-1", "sts.cn-north-1.amazonaws.com.cn"],
    ["us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"],
    ["us-east-1", "sts.us-east-1.api.aws", dualStack],
    ["cn-north-1", "sts.cn-north-1.api.amazonwebservices.com.cn", dualStack],
    ["us-east-1", "sts-fips.us-east-1.amazonaws.com", "AWS_USE_FIPS_ENDPOINT"],
  ] as const) {
    const where = setting === undefined ? `the partition of ${region}` : `${region}'s endpoint by ${setting}`;
    it(`goes to ${where}`, async (t) => {
      if (setting !== undefined) {
        process.env[setting] = "true";
        t.after(() => delete process.env[setting]);
      }
      const proxy = await listen(t);
      const client = new STSClient({
        region,
        credentials: { accessKeyId: "a", secretAccessKey: "b" },
        maxAttempts: 1,
        requestHandler: connectionsTo(undefined, { HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` }),
      });
      t.after(() => client.destroy());
      await assert.rejects(client.send(new GetCallerIdentityCommand({})));
      assert.deepEqual(proxy.asked, [`${host}:443`]);
    });
  }
});
