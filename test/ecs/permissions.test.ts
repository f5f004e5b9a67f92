/**
 * Each action of the backend's documented policy taken away in turn, from the daemon's start on: whoever sets a cloud up is
 * told which one is missing. A sample; with SOCKERLESS_SOAK=1 (`npm run soak -- "missing permissions"`) all of them.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import type { PolicyDocument } from "../simulators/aws/iam/access.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { awsEnvironment, EcsAccount } from "../support/ecs-daemon.ts";
import { liveWithout } from "../support/missing-permission.ts";

const sample = ["ecs:RunTask", "ecr:BatchCheckLayerAvailability"];
/**
 * Actions that one short life does without: of sweeps and prunes, of layers that are large or shared, of a lost state, and of
 * agents that do not answer.
 */
const unneeded: readonly string[] = [
  ...["ecr:GetDownloadUrlForLayer", "ecr:ListImages", "ecr:UploadLayerPart"],
  ...["ecs:DeleteTaskDefinitions", "ecs:DeregisterTaskDefinition"],
  ...["ecs:ListTaskDefinitionFamilies", "ecs:ListTaskDefinitions", "ecs:StopTask", "ecs:TagResource"],
  ...["logs:GetLogEvents", "servicediscovery:ListInstances"],
];

const policyFile = join(checkout, "deploy/iam/backend-policy.json");
const text = await readFile(policyFile, "utf8");
const { Statement: statements } = JSON.parse(text) as PolicyDocument;
const all = [...new Set(statements.flatMap(({ Action }) => Action))];
const chosen =
  process.env["SOCKERLESS_ACTIONS"]?.split(",") ?? (process.env["SOCKERLESS_SOAK"] === "1" ? all : sample);

describe("a life on ECS in which the backend must not", () => {
  for (const action of chosen) {
    it(`${action} tells so`, async (test) => {
      await using account = await EcsAccount.open({
        leastPrivilege: true,
        ecs: { linger: "1s", start_timeout: "120s" },
      });
      const { aws } = account;
      const whole = aws.fillPolicy(text);
      const rest = whole.Statement.map((statement) => ({
        ...statement,
        Action: [statement.Action].flat().filter((each) => each !== action),
      }));
      const policy = { ...whole, Statement: rest.filter(({ Action }) => Action.length > 0) };
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
