import assert from "node:assert/strict";
import { test } from "node:test";

import {
  CreateSecretCommand,
  DeleteSecretCommand,
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
} from "@aws-sdk/client-secrets-manager";

import { type Aws, startAws } from "../../aws.ts";

const Name = "sockerless/sockerless/ghcr.io";

function clientOf(aws: Aws): SecretsManagerClient {
  return new SecretsManagerClient({ ...aws.clientConfig, maxAttempts: 1 });
}

test("a secret's current value is the last that was put", async () => {
  await using aws = await startAws({ lightweight: true });
  const secrets = clientOf(aws);
  const { ARN: SecretId } = await secrets.send(new CreateSecretCommand({ Name, SecretString: "one" }));
  await secrets.send(new PutSecretValueCommand({ SecretId, SecretString: "two" }));
  const value = async (SecretId: string | undefined, VersionStage?: string) =>
    (await secrets.send(new GetSecretValueCommand({ SecretId, VersionStage }))).SecretString;
  assert.equal(await value(SecretId), "two");
  assert.equal(await value(Name), "two");
  assert.equal(await value(SecretId, "AWSPREVIOUS"), "one");
  const { VersionIdsToStages = {} } = await secrets.send(new DescribeSecretCommand({ SecretId }));
  assert.deepEqual(Object.values(VersionIdsToStages), [["AWSCURRENT"], ["AWSPREVIOUS"]]);
});

test("a name is taken until the deletion is over", async () => {
  await using aws = await startAws({ lightweight: true });
  const secrets = clientOf(aws);
  const create = () => secrets.send(new CreateSecretCommand({ Name, SecretString: "one" }));
  await create();
  await assert.rejects(create(), { name: "ResourceExistsException" });
  await secrets.send(new DeleteSecretCommand({ SecretId: Name, RecoveryWindowInDays: 7 }));
  await assert.rejects(secrets.send(new GetSecretValueCommand({ SecretId: Name })), {
    name: "InvalidRequestException",
  });
  await assert.rejects(create(), { name: "InvalidRequestException" });
  aws.clock.advance(7 * 24 * 3_600_000);
  await create();
  await secrets.send(new DeleteSecretCommand({ SecretId: Name, ForceDeleteWithoutRecovery: true }));
  await create();
});

test("a task gets a secret only if its execution role may", async () => {
  await using aws = await startAws({ lightweight: true });
  const { ARN = "" } = await clientOf(aws).send(new CreateSecretCommand({ Name, SecretString: "one" }));
  aws.iam.enforced = true;
  const reader = aws.iam.addRole("reader", {
    trusted: [],
    policies: [{ Statement: [{ Effect: "Allow", Action: "secretsmanager:GetSecretValue", Resource: ARN }] }],
  });
  assert.equal(aws.services.secrets.valueFor(reader, ARN), "one");
  assert.throws(() => aws.services.secrets.valueFor(aws.account.executionRoleArn, ARN), {
    code: "AccessDeniedException",
  });
});
