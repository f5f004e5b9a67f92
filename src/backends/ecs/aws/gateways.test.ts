import assert from "node:assert/strict";
import { createServer } from "node:http";
import { describe, it } from "node:test";

import { DescribeSubnetsCommand, EC2Client } from "@aws-sdk/client-ec2";
import { ECSClient, ListTasksCommand } from "@aws-sdk/client-ecs";
import { DescribeMountTargetsCommand, EFSClient } from "@aws-sdk/client-efs";

import { AwsError, isTransient } from "./errors.ts";
import { listenHere } from "../../../../test/support/listen-here.ts";

const html =
  "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><center><h1>502 Bad Gateway</h1></center><hr></body></html>";

/** The error of a call that is answered so. */
async function errorOf(
  status: number,
  body: string,
  call: (settings: object) => Promise<unknown>,
): Promise<AwsError> {
  const server = createServer((request, response) => {
    request.resume();
    response.writeHead(status, { "content-type": "text/html" }).end(body);
  });
  const port = await listenHere(server);
  const credentials = { accessKeyId: "a", secretAccessKey: "b" };
  const settings = { region: "eu-west-1", endpoint: `http://127.0.0.1:${port}`, credentials, maxAttempts: 1 };
  try {
    await call(settings);
    return assert.fail("it is taken for an answer");
  } catch (error) {
    return new AwsError({ service: "ecs", operation: "Ask" }, error);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const calls = {
  "JSON (ecs)": (settings: object) => new ECSClient(settings).send(new ListTasksCommand({})),
  "XML (ec2)": (settings: object) => new EC2Client(settings).send(new DescribeSubnetsCommand({})),
  "REST (efs)": (settings: object) =>
    new EFSClient(settings).send(new DescribeMountTargetsCommand({ FileSystemId: "fs-1" })),
};

describe("an answer that a gateway gives in AWS's place", () => {
  for (const [protocol, call] of Object.entries(calls)) {
    it(`is a sentence with its status where ${protocol} was expected`, async () => {
      for (const body of [html, "upstream connect error", ""]) {
        const error = await errorOf(502, body, call);
        assert.equal(error.message, "ecs: Ask: AWS or a gateway on the way answered 502 Bad Gateway");
        assert.ok(isTransient(error), "it is asked again");
      }
    });
  }

  it("is told, too, where it looks like an answer by its status", async () => {
    const { message } = await errorOf(200, html, calls["JSON (ecs)"]);
    assert.equal(message, "ecs: Ask: AWS or a gateway on the way answered 200 OK with what cannot be read");
  });
});
