import assert from "node:assert/strict";
import { test } from "node:test";

import { startAws } from "../../aws.ts";

test("a task gets a secret only if its execution role may", async () => {
  await using aws = await startAws({ lightweight: true });
  const { secrets } = aws.services;
  const arn = secrets.create("sockerless/sockerless/ghcr.io", "one");
  aws.iam.enforced = true;
  const reader = aws.iam.addRole("reader", {
    trusted: [],
    policies: [{ Statement: [{ Effect: "Allow", Action: "secretsmanager:GetSecretValue", Resource: arn }] }],
  });
  assert.equal(secrets.valueFor(reader, arn), "one");
  assert.throws(() => secrets.valueFor(aws.account.executionRoleArn, arn), { code: "AccessDeniedException" });
});
