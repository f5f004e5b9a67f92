import assert from "node:assert/strict";
import { test } from "node:test";

import { IAMClient, SimulatePrincipalPolicyCommand } from "@aws-sdk/client-iam";

import { startAws } from "../aws.ts";

test("a simulation tells what a user's policies allow on a resource, with a context", async () => {
  await using aws = await startAws({ lightweight: true });
  aws.iam.addUser("worker", [
    {
      Statement: [
        { Effect: "Allow", Action: ["ecs:*"], Resource: "arn:aws:ecs:*:*:task/*" },
        { Effect: "Deny", Action: "ecs:StopTask", Resource: "*" },
        {
          Effect: "Allow",
          Action: "ec2:CreateTags",
          Resource: "*",
          Condition: { StringEquals: { "ec2:CreateAction": "CreateSecurityGroup" } },
        },
      ],
    },
  ]);
  const iam = new IAMClient({ ...aws.clientConfig, maxAttempts: 1 });
  const PolicySourceArn = `arn:aws:iam::${aws.accountId}:user/worker`;
  const simulate = async (ActionNames: string[], resource: string, values: string[] = []) => {
    const { EvaluationResults = [] } = await iam.send(
      new SimulatePrincipalPolicyCommand({
        PolicySourceArn,
        ActionNames,
        ResourceArns: [resource],
        ContextEntries: values.map((value) => ({
          ContextKeyName: "ec2:CreateAction",
          ContextKeyType: "string",
          ContextKeyValues: [value],
        })),
      }),
    );
    return EvaluationResults.map(({ EvalActionName, EvalDecision }) => [EvalActionName, EvalDecision]);
  };
  assert.deepEqual(await simulate(["ecs:RunTask", "ecs:StopTask"], "arn:aws:ecs:us-east-1:1:task/x"), [
    ["ecs:RunTask", "allowed"],
    ["ecs:StopTask", "explicitDeny"],
  ]);
  assert.deepEqual(await simulate(["ec2:CreateTags"], "*"), [["ec2:CreateTags", "implicitDeny"]]);
  assert.deepEqual(await simulate(["ec2:CreateTags"], "*", ["CreateSecurityGroup"]), [
    ["ec2:CreateTags", "allowed"],
  ]);
  const nobody = new SimulatePrincipalPolicyCommand({
    PolicySourceArn: PolicySourceArn.replace("worker", "nobody"),
    ActionNames: ["ecs:RunTask"],
  });
  await assert.rejects(iam.send(nobody), { name: "NoSuchEntityException" });
});
