import assert from "node:assert/strict";
import { test } from "node:test";

import { Rates } from "../../common/rates.ts";
import { publishedRates } from "./rates.ts";

/** How many calls pass at once, and how many a second later. */
function allowance(region: string, operation: string, input: object = { filtered: true }): [number, number] {
  let now = 0;
  const rates = new Rates({ nowMs: () => now }, publishedRates(region));
  rates.enabled = true;
  const passing = (): number => {
    let count = 0;
    while (rates.take(operation, input) === undefined) {
      count += 1;
    }
    return count;
  };
  const burst = passing();
  now += 1000;
  return [burst, passing()];
}

test("the published rates hold: burst, and calls per second", () => {
  assert.deepEqual(allowance("us-east-1", "ecs.RegisterTaskDefinition"), [20, 1]);
  assert.deepEqual(allowance("us-east-1", "ecs.DescribeTasks"), [100, 20]);
  assert.deepEqual(allowance("us-east-1", "ecs.StopTask"), [100, 40]);
  assert.deepEqual(allowance("us-east-1", "logs.GetLogEvents"), [25, 25]);
  assert.deepEqual(allowance("eu-west-1", "logs.GetLogEvents"), [10, 10]);
  assert.deepEqual(allowance("us-east-1", "ec2.CreateSecurityGroup"), [50, 5]);
  assert.deepEqual(allowance("us-east-1", "ec2.DescribeSecurityGroups"), [100, 20]);
  assert.deepEqual(allowance("us-east-1", "ec2.DescribeSecurityGroups", {}), [50, 10]);
});

test("calls of RunTask and the tasks that they launch are counted apart", () => {
  assert.deepEqual(allowance("us-east-1", "ecs.RunTask"), [20, 20]);
  assert.deepEqual(allowance("us-east-1", "ecs.RunTask", { count: 10 }), [10, 2]);
  const spot = { count: 10, capacityProviderStrategy: [{ capacityProvider: "FARGATE_SPOT" }] };
  assert.deepEqual(allowance("us-east-1", "ecs.RunTask", spot), [10, 2]);
});

test("what has no published rate is not limited", () => {
  const rates = new Rates({ nowMs: () => 0 }, publishedRates("us-east-1"));
  rates.enabled = true;
  for (let calls = 0; calls < 10_000; calls += 1) {
    assert.equal(rates.take("sts.GetCallerIdentity", {}), undefined);
  }
});
