import assert from "node:assert/strict";
import { test } from "node:test";

import type { AccessRequest, PolicyStatement } from "./access.ts";
import { checkPolicy, evaluate } from "./policy.ts";

const allow = (statement: Partial<PolicyStatement>): PolicyStatement => ({
  Effect: "Allow",
  Action: "ecs:RunTask",
  Resource: "*",
  ...statement,
});

function verdict(statements: readonly PolicyStatement[], request: Partial<AccessRequest> = {}): string {
  return evaluate([{ Statement: statements }], {
    action: "ecs:RunTask",
    resource: "arn:x:task/1",
    ...request,
  });
}

test("what nothing allows is not allowed, and a denial wins", () => {
  assert.equal(verdict([]), "not allowed");
  assert.equal(verdict([allow({})]), "allowed");
  assert.equal(verdict([allow({}), allow({ Effect: "Deny", Action: "ecs:*" })]), "explicitly denied");
});

test("actions have wildcards and no case, resources have wildcards and case", () => {
  assert.equal(verdict([allow({ Action: ["ecs:r?n*"] })]), "allowed");
  assert.equal(verdict([allow({ Action: "ecs:Run" })]), "not allowed");
  assert.equal(verdict([allow({ Resource: "arn:x:task/*" })]), "allowed");
  assert.equal(verdict([allow({ Resource: "arn:X:task/*" })]), "not allowed");
  assert.equal(verdict([allow({ Resource: "arn.x:task/1" })]), "not allowed");
});

test("an action without resource level needs a policy for all resources", () => {
  assert.equal(verdict([allow({ Resource: "arn:x:*" })], { resource: "*" }), "not allowed");
  assert.equal(verdict([allow({})], { resource: "*" }), "allowed");
});

test("every key of every condition must hold", () => {
  const Condition = {
    ArnEquals: { "ecs:cluster": "arn:c/*" },
    StringEquals: { "aws:RequestTag/Owner": ["a", "b"] },
  };
  const context = { "ECS:Cluster": "arn:c/1", "aws:RequestTag/Owner": "b" };
  assert.equal(verdict([allow({ Condition })], { context }), "allowed");
  assert.equal(verdict([allow({ Condition })], { context: { "ecs:cluster": "arn:c/1" } }), "not allowed");
  const otherCase = { "ecs:cluster": "arn:c/1", "aws:RequestTag/owner": "b" };
  assert.equal(verdict([allow({ Condition })], { context: otherCase }), "not allowed");
});

test("Null asks whether a key is there", () => {
  const there = allow({ Condition: { Null: { "aws:ResourceTag/mine": "false" } } });
  const absent = allow({ Condition: { Null: { "aws:ResourceTag/mine": "true" } } });
  const context = { "aws:ResourceTag/mine": "x" };
  assert.deepEqual([verdict([there], { context }), verdict([there])], ["allowed", "not allowed"]);
  assert.deepEqual([verdict([absent], { context }), verdict([absent])], ["not allowed", "allowed"]);
});

test("a key that is absent fails what is positive and passes what is negated or optional", () => {
  const when = (operator: string) => verdict([allow({ Condition: { [operator]: { "aws:x": "1" } } })]);
  assert.equal(when("StringEquals"), "not allowed");
  assert.equal(when("StringNotEquals"), "allowed");
  assert.equal(when("StringEqualsIfExists"), "allowed");
});

test("several values of a key: all must fit, unless any is asked for", () => {
  const context = { "aws:TagKeys": ["a", "b"] };
  const when = (operator: string) =>
    verdict([allow({ Condition: { [operator]: { "aws:TagKeys": ["a"] } } })], { context });
  assert.equal(when("ForAllValues:StringEquals"), "not allowed");
  assert.equal(when("ForAnyValue:StringEquals"), "allowed");
});

test("a document with a placeholder or what is not evaluated is refused", () => {
  assert.throws(() => checkPolicy({ Statement: [allow({ Resource: "arn:<region>" })] }), /placeholder/);
  assert.throws(
    () => checkPolicy({ Statement: [allow({ Resource: "arn:\u0024{aws:username}" })] }),
    /variable/,
  );
  assert.throws(
    () => checkPolicy({ Statement: [allow({ Condition: { IpAddress: { "aws:SourceIp": "::" } } })] }),
    /no such condition operator: IpAddress/,
  );
});
