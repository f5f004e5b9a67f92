import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";

import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

import { startAws } from "./aws.ts";

test("the SDK's clients are told who they are", async () => {
  await using aws = await startAws({ lightweight: true });
  const sts = new STSClient(aws.clientConfig);
  const { $metadata, ...identity } = await sts.send(new GetCallerIdentityCommand());
  assert.equal(identity.Account, aws.accountId);
  assert.equal(identity.Arn, `arn:aws:iam::${aws.accountId}:user/administrator`);
  assert.equal($metadata.requestId, aws.calls.all("sts.GetCallerIdentity")[0]?.requestId);
});

test("another process finds the account by its environment", async () => {
  await using aws = await startAws({ lightweight: true });
  const program = `
    import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
    console.log((await new STSClient().send(new GetCallerIdentityCommand())).Arn);
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program], {
    env: aws.environmentFor(aws.iam.addUser("backend", [])),
  });
  assert.equal(stdout, `arn:aws:iam::${aws.accountId}:user/backend\n`);
});

test("nothing is left of an account that has ended", async () => {
  const aws = await startAws({ lightweight: true });
  const { directory } = aws.context;
  assert.equal(existsSync(directory), true);
  await aws.stop();
  assert.equal(existsSync(directory), false);
  await assert.rejects(fetch(aws.endpoint), /fetch failed/);
});
