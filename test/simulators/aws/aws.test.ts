import assert from "node:assert/strict";
import { test } from "node:test";

import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

import { startAws } from "./aws.ts";

test("the SDK's clients are told who they are", async () => {
  await using aws = await startAws();
  const sts = new STSClient(aws.clientConfig);
  const { $metadata, ...identity } = await sts.send(new GetCallerIdentityCommand());
  assert.equal(identity.Account, aws.accountId);
  assert.equal(identity.Arn, `arn:aws:iam::${aws.accountId}:user/administrator`);
  assert.equal($metadata.requestId, aws.calls.all("sts.GetCallerIdentity")[0]?.requestId);
});
