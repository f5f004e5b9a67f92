/**
 * Each action of the backend's documented policy taken away in turn, from the daemon's start on: whoever sets a cloud up is
 * told which one is missing. A sample; with SOCKERLESS_SOAK=1 (`npm run soak -- "missing permissions"`) all of them.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import { GetLogEventsCommand } from "@aws-sdk/client-cloudwatch-logs";
import { ListImagesCommand } from "@aws-sdk/client-ecr";
import {
  DeleteTaskDefinitionsCommand,
  DeregisterTaskDefinitionCommand,
  ListTaskDefinitionFamiliesCommand,
  ListTaskDefinitionsCommand,
  StopTaskCommand,
  TagResourceCommand,
} from "@aws-sdk/client-ecs";
import { ListInstancesCommand } from "@aws-sdk/client-servicediscovery";

import { type AwsClients, createAwsClients } from "../../src/backends/ecs/aws/clients.ts";
import { capturedLogger } from "../../src/backends/cloud/testing/captured-logger.ts";
import { systemClock } from "../../src/common/clock.ts";
import { messageOf } from "../../src/common/errors.ts";
import type { PolicyDocument } from "../simulators/aws/iam/access.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { awsEnvironment, EcsAccount, withoutAction } from "../support/ecs-daemon.ts";
import { liveWithout } from "../support/missing-permission.ts";
import { isSoak } from "../support/soak.ts";

const sample = ["ecs:RunTask"];
/** Calls that one short life does without: of sweeps and prunes, of a lost state, and of agents that do not answer. */
const rareCalls: Readonly<Record<string, (aws: AwsClients) => Promise<unknown>>> = {
  "ecr:ListImages": ({ ecr }) => ecr.send(new ListImagesCommand({ repositoryName: "any" })),
  "ecs:DeleteTaskDefinitions": ({ ecs }) =>
    ecs.send(new DeleteTaskDefinitionsCommand({ taskDefinitions: ["any:1"] })),
  "ecs:DeregisterTaskDefinition": ({ ecs }) =>
    ecs.send(new DeregisterTaskDefinitionCommand({ taskDefinition: "any:1" })),
  "ecs:ListTaskDefinitionFamilies": ({ ecs }) => ecs.send(new ListTaskDefinitionFamiliesCommand({})),
  "ecs:ListTaskDefinitions": ({ ecs }) => ecs.send(new ListTaskDefinitionsCommand({})),
  "ecs:StopTask": ({ ecs }) => ecs.send(new StopTaskCommand({ cluster: "any", task: "0".repeat(32) })),
  "ecs:TagResource": ({ ecs }) =>
    ecs.send(new TagResourceCommand({ resourceArn: taskArn, tags: [{ key: "a", value: "b" }] })),
  "logs:GetLogEvents": ({ logs }) =>
    logs.send(new GetLogEventsCommand({ logGroupName: "any", logStreamName: "any" })),
  "servicediscovery:ListInstances": ({ serviceDiscovery }) =>
    serviceDiscovery.send(new ListInstancesCommand({ ServiceId: "srv-0123456789abcdef" })),
};
const taskArn = `arn:aws:ecs:eu-west-1:123456789012:task/any/${"0".repeat(32)}`;
/** Actions for layers that are large, or in no other place; the registry's answer names them as it does the others. */
const rareInRegistry = ["ecr:GetDownloadUrlForLayer", "ecr:UploadLayerPart"];
const unneeded: readonly string[] = [...Object.keys(rareCalls), ...rareInRegistry];

const policyFile = join(checkout, "deploy/iam/backend-policy.json");
const text = await readFile(policyFile, "utf8");
const { Statement: statements } = JSON.parse(text) as PolicyDocument;
const all = [...new Set(statements.flatMap(({ Action }) => Action))];
const chosen = process.env["SOCKERLESS_ACTIONS"]?.split(",") ?? (isSoak ? all : sample);

describe("a life on ECS in which the backend must not", () => {
  for (const action of chosen) {
    it(`${action} tells so`, async (test) => {
      await using account = await EcsAccount.open({
        leastPrivilege: true,
        ecs: { linger: "1s", start_timeout: "120s" },
      });
      const { aws } = account;
      const policy = withoutAction(aws.fillPolicy(text), action);
      const env = { ...account.env, ...awsEnvironment(aws.iam.addUser("restricted", [policy])) };
      await using daemons = new AsyncDisposableStack();
      const { denials, loggedAfterMs, untold, toldAfterMs, transcript } = await liveWithout(
        {
          isNamedIn: (said) => said.includes(action),
          deniedAt: () =>
            aws.iam.denials.filter((denial) => denial.action === action).map(({ atMs }) => atMs),
        },
        async () => {
          const daemon = daemons.use(
            await Daemon.start({ args: ["--backend", "ecs", ...account.args], env }),
          );
          daemons.defer(() => {
            aws.iam.enforced = false; // The removal is to go through.
          });
          return daemon;
        },
      );
      test.diagnostic(
        `${action} was denied ${denials} times, logged after ${loggedAfterMs} ms, told after ${toldAfterMs} ms`,
      );
      assert.equal(denials > 0, !unneeded.includes(action), transcript);
      if (denials > 0) {
        assert.ok(loggedAfterMs !== undefined, `the log has no word of it: ${transcript}`);
        assert.deepEqual(untold, [], transcript);
      }
    });
  }
});

it("a call that a life rarely makes is named in the log and in its error at once", async () => {
  await using account = await EcsAccount.open({ leastPrivilege: true });
  const { region, endpoint, iam } = account.aws;
  const own = { ...process.env };
  Object.assign(process.env, awsEnvironment(iam.addUser("nobody", [])));
  const { logger, warnings } = capturedLogger();
  const aws = createAwsClients({ region, endpoint, rates: {}, clock: systemClock, logger });
  try {
    for (const [action, call] of Object.entries(rareCalls)) {
      await assert.rejects(call(aws), (error) => messageOf(error).includes(action), action);
      assert.ok(warnings().at(-1)?.includes(action), `${action}: ${warnings().join("; ")}`);
    }
  } finally {
    aws.close();
    process.env = own;
  }
});
