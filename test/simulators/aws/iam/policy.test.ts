import assert from "node:assert/strict";
import { test } from "node:test";

import type { AccessRequest, PolicyStatement, Role } from "./access.ts";
import { checkPolicy, checkResourcePolicy, evaluate, evaluateOnResource } from "./policy.ts";

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
  const Condition = { ArnEquals: { "aws:PrincipalArn": "arn:<backend-role>" } };
  assert.throws(() => checkPolicy({ Statement: [allow({ Condition })] }), /placeholder/);
  assert.throws(
    () => checkPolicy({ Statement: [allow({ Resource: "arn:\u0024{aws:username}" })] }),
    /variable/,
  );
  assert.throws(
    () => checkPolicy({ Statement: [allow({ Condition: { IpAddress: { "aws:SourceIp": "::" } } })] }),
    /no such condition operator: IpAddress/,
  );
});

const role: Role = { arn: "arn:aws:iam::123456789012:role/task", trusted: [], policies: [] };

function onResource(statements: readonly PolicyStatement[], caller: Role | undefined): string {
  return evaluateOnResource({ Statement: statements }, caller, { action: "ecs:RunTask", resource: "arn:x" });
}

test("a resource's policy is about everybody, nobody included, or about who is named", () => {
  const to = (AWS: string) => [allow({ Principal: { AWS } })];
  assert.deepEqual([onResource(to("*"), role), onResource(to("*"), undefined)], ["allowed", "allowed"]);
  assert.equal(onResource([allow({ Principal: "*" })], undefined), "allowed");
  assert.deepEqual(
    [onResource(to(role.arn), role), onResource(to(role.arn), undefined)],
    ["allowed", "not allowed"],
  );
  assert.equal(onResource(to("arn:aws:iam::123456789012:role/other"), role), "not allowed");
  assert.throws(() => checkResourcePolicy({ Statement: [allow({})] }), /no Principal/);
});

test("a resource's policy that names an account allows none of its roles by that alone, and denies all", () => {
  for (const AWS of ["123456789012", "arn:aws:iam::123456789012:root"]) {
    const Principal = { AWS };
    assert.equal(onResource([allow({ Principal })], role), "not allowed");
    const denial = [allow({ Principal: "*" }), allow({ Effect: "Deny", Principal })];
    assert.equal(onResource(denial, role), "explicitly denied");
    assert.equal(onResource(denial, undefined), "allowed");
  }
});

test("a resource and a role each may allow, and each may deny", () => {
  const may = { ...role, policies: [{ Statement: [allow({})] }] };
  const mayNot = { ...role, policies: [{ Statement: [allow({ Effect: "Deny" })] }] };
  assert.equal(onResource([], may), "allowed");
  assert.equal(onResource([allow({ Principal: "*" })], mayNot), "explicitly denied");
  assert.equal(onResource([allow({ Effect: "Deny", Principal: "*" })], may), "explicitly denied");
});

test("who calls is a key of the request, which nobody lacks", () => {
  const denyOthers = allow({
    Effect: "Deny",
    Principal: "*",
    Condition: { ArnNotEquals: { "aws:PrincipalArn": role.arn } },
  });
  const statements = [allow({ Principal: "*" }), denyOthers];
  assert.equal(onResource(statements, role), "allowed");
  assert.equal(onResource(statements, undefined), "explicitly denied");
});
