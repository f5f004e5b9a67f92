import assert from "node:assert/strict";
import { test } from "node:test";

import { CreateRepositoryCommand, ECRClient } from "@aws-sdk/client-ecr";
import { EC2Client, DescribeSubnetsCommand } from "@aws-sdk/client-ec2";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

import { startAws } from "./aws.ts";

test("a fault hits as many calls as it is told to, and no others", async () => {
  await using aws = await startAws({ lightweight: true });
  const sts = new STSClient({ ...aws.clientConfig, maxAttempts: 1 });
  aws.faults.add({ on: "ec2", error: { code: "InternalError", status: 500 } });
  aws.faults.add({
    on: "sts.GetCallerIdentity",
    times: 2,
    error: { code: "ServiceUnavailable", status: 503 },
  });
  for (const _ of [1, 2]) {
    await assert.rejects(sts.send(new GetCallerIdentityCommand()), { name: "ServiceUnavailable" });
  }
  await sts.send(new GetCallerIdentityCommand());
  assert.deepEqual(
    aws.calls.all("sts.GetCallerIdentity").map(({ status }) => status),
    [503, 503, 200],
  );
});

test("a fault concerns the requests that it is for", async () => {
  await using aws = await startAws({ lightweight: true });
  const ecr = new ECRClient({ ...aws.clientConfig, maxAttempts: 1 });
  aws.faults.add({
    on: "ecr.CreateRepository",
    where: (input) => (input as { repositoryName: string }).repositoryName === "bad",
    error: { code: "LimitExceededException" },
  });
  await ecr.send(new CreateRepositoryCommand({ repositoryName: "good" }));
  await assert.rejects(ecr.send(new CreateRepositoryCommand({ repositoryName: "bad" })), {
    name: "LimitExceededException",
  });
});

test("a connection that is cut after the work leaves the work done, before it undone", async () => {
  await using aws = await startAws({ lightweight: true });
  const ecr = new ECRClient({ ...aws.clientConfig, maxAttempts: 1 });
  aws.faults.add({ on: "ecr", cut: "before" });
  aws.faults.add({ on: "ecr", cut: "after" });
  await assert.rejects(ecr.send(new CreateRepositoryCommand({ repositoryName: "one" })));
  await assert.rejects(ecr.send(new CreateRepositoryCommand({ repositoryName: "two" })));
  assert.equal(aws.services.ecr.find("one"), undefined);
  assert.notEqual(aws.services.ecr.find("two"), undefined);
  assert.deepEqual(
    aws.calls.all("ecr.CreateRepository").map(({ status }) => status),
    [0, 0],
  );
});

test("rates hold once they are turned on, and time fills their buckets", async () => {
  await using aws = await startAws({ lightweight: true });
  const ec2 = new EC2Client({ ...aws.clientConfig, maxAttempts: 1 });
  const describe = () => ec2.send(new DescribeSubnetsCommand({ SubnetIds: [...aws.account.subnetIds] }));
  // A bucket that fills once in a quarter of an hour: no test is that slow.
  aws.rates.override("ec2.DescribeSubnets", { burst: 3, perSecond: 0.001 });
  const five = [1, 2, 3, 4, 5];
  for (const _ of five) {
    await describe();
  }
  aws.rates.enabled = true;
  const outcomes = [];
  for (const _ of five) {
    outcomes.push(
      await describe().then(
        () => "ok",
        (error: Error) => error.name,
      ),
    );
  }
  const over = "RequestLimitExceeded";
  assert.deepEqual(outcomes, ["ok", "ok", "ok", over, over]);
  aws.clock.advance(1_000_000);
  await describe();
  await assert.rejects(describe(), { name: over });
  assert.throws(
    () => aws.rates.override("ec2", { burst: 1, perSecond: 1 }),
    /no such rate: ec2; there are: /,
  );
});
