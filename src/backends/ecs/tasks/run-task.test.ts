import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ConflictException, type ECSClient } from "@aws-sdk/client-ecs";

import { isErrorKind } from "../../../common/errors.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import type { AwsService } from "../aws/clients.ts";
import { AwsError } from "../aws/errors.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { fakeClient, refusal } from "../testing/fake-client.ts";
import { DefinitionGone, runTask } from "./run-task.ts";

const request = { taskDefinition: "sockerless-1:1", clientToken: "token" };
const quota = "You've reached the limit on the number of vCPUs you can run concurrently";

function setUp(...answers: (() => unknown)[]) {
  let made = 0;
  const { client, calls } = fakeClient<AwsService<ECSClient>>({
    RunTask: () => answers[Math.min(made++, answers.length - 1)]?.(),
  });
  const clock = new ManualClock();
  const { logger, warnings } = capturedLogger();
  const run = (signal = new AbortController().signal): Promise<string> =>
    runTask("container", request, signal, { ecs: client, clock, logger });
  return { clock, warnings, calls, run };
}

const task = (arn: string) => () => ({ tasks: [{ taskArn: arn }], failures: [] });
const failures = (reason: string) => () => ({ tasks: [], failures: [{ reason }] });

describe("getting a task", () => {
  it("answers its ARN", async () => {
    assert.equal(await setUp(task("arn:1")).run(), "arn:1");
  });

  it("takes the task that the same start was given before", async () => {
    const conflict = new ConflictException({ message: "taken", resourceIds: ["arn:before"], $metadata: {} });
    const { run } = setUp(() => {
      throw new AwsError({ service: "ecs", operation: "RunTask" }, conflict);
    });
    assert.equal(await run(), "arn:before");
  });

  it("takes failures for what they are, though they come as a success", async () => {
    const { run } = setUp(failures("RESOURCE:ENI"));
    await assert.rejects(run(), (error: Error) => {
      assert.ok(isErrorKind(error, "unavailable"));
      assert.equal(error.message, "failed to start a task for the container: RESOURCE:ENI");
      return true;
    });
  });

  it("keeps AWS's words where it refuses", async () => {
    const { run } = setUp(() => {
      throw refusal("ecs", "RunTask", "InvalidParameterException", "ECS was unable to assume the role");
    });
    await assert.rejects(run(), (error: Error) => {
      assert.ok(isErrorKind(error, "system"));
      assert.match(error.message, /ecs: RunTask: ECS was unable to assume the role/);
      return true;
    });
  });

  it("waits for a quota and says so once", async () => {
    const refused = (): never => {
      throw refusal("ecs", "RunTask", "ClientException", quota);
    };
    const { run, clock, warnings, calls } = setUp(refused, refused, failures(quota), task("arn:2"));
    const got = run();
    for (let seconds = 0; calls.length < 4; seconds++) {
      assert.ok(seconds < 60, "it does not try again");
      await clock.advance(1_000);
    }
    assert.equal(await got, "arn:2");
    assert.equal(warnings().length, 2); // AWS has put it in two ways.
    assert.match(warnings()[0] ?? "", /waits to be started: .*vCPUs/);
  });

  it("gives up waiting when the start may not take longer, with what it waited for", async () => {
    const timeout = new AbortController();
    const { run, clock } = setUp(failures(quota));
    const got = run(timeout.signal);
    await clock.advance(5_000);
    timeout.abort(new Error("too long"));
    await assert.rejects(got, (error: Error) => {
      assert.ok(isErrorKind(error, "unavailable"));
      assert.match(error.message, /limit on the number of vCPUs/);
      return true;
    });
  });

  it("tells a definition that is gone from other refusals", async () => {
    const words = [
      "TaskDefinition is inactive",
      "TaskDefinition not found.",
      "Unable to describe task definition.",
      "The specified task definition does not exist.",
    ];
    for (const message of words) {
      const { run } = setUp(() => {
        throw refusal("ecs", "RunTask", "ClientException", message);
      });
      await assert.rejects(run(), DefinitionGone, message);
    }
    const { run } = setUp(() => {
      throw refusal("ecs", "RunTask", "ClientException", "Role not found.");
    });
    await assert.rejects(run(), (error) => !(error instanceof DefinitionGone));
  });
});
