import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ConflictException, type ECSClient } from "@aws-sdk/client-ecs";

import { isErrorKind } from "../../../common/errors.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import type { AwsService } from "../aws/clients.ts";
import { AwsError } from "../aws/errors.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { answered, fakeClient, refusal } from "../testing/fake-client.ts";
import { passing } from "../testing/passing.ts";
import { QuotaLines } from "./quota-lines.ts";
import { DefinitionGone, runTask, type TaskStart } from "./run-task.ts";
import { type LateAnswer, UnansweredRequests } from "./unanswered-requests.ts";

const request = { taskDefinition: "sockerless-1:1", clientToken: "token", overrides: { cpu: "256" } };
const quota = "You've reached the limit on the number of vCPUs you can run concurrently";
const startTimeoutMs = 300_000;
const quotaTimeoutMs = 3_600_000;

function setUp(...answers: (() => unknown)[]) {
  let made = 0;
  const { client, calls } = fakeClient<AwsService<ECSClient>>({
    RunTask: () => answers[Math.min(made++, answers.length - 1)]?.(),
  });
  const clock = new ManualClock();
  const { logger, warnings } = capturedLogger();
  const unanswered = new UnansweredRequests();
  const room = { isExpected: true };
  const options = {
    ...{ ecs: client, clock, logger, startTimeoutMs, quotaTimeoutMs, quotaLines: new QuotaLines() },
    unanswered,
    isRoomExpected: () => Promise.resolve(room.isExpected),
  };
  const waits: string[] = [];
  const start = {
    containerId: "container",
    isResumed: false,
    signal: new AbortController().signal,
    waits: (reason: string) => void waits.push(reason),
  };
  const run = (differing: Partial<TaskStart> = {}, cpu = "256"): Promise<string> => {
    const got = runTask({ ...request, overrides: { cpu } }, { ...start, ...differing }, options);
    got.catch(() => undefined);
    return got;
  };
  /** Lets time go by, in seconds, until something holds. */
  const until = async (holds: () => boolean, limitS = 60): Promise<void> => {
    for (let seconds = 0; !holds(); seconds++) {
      assert.ok(seconds < limitS, `not within ${limitS} s`);
      await clock.advance(1_000);
    }
  };
  return { clock, warnings, calls, run, waits, room, until, unanswered };
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

  it("leaves the request that is on its way to who cleans up, when its start is over", async () => {
    const answer = Promise.withResolvers<object>();
    const { run, unanswered } = setUp(() => answer.promise);
    const over = new AbortController();
    const got = run({ signal: over.signal });
    over.abort(new Error("the start is over"));
    await assert.rejects(got, /the start is over/);
    answer.resolve(task("arn:late")());
    assert.deepEqual(await unanswered.answerTo("container"), { arn: "arn:late" });
  });

  const left = new Error("the start is over");
  const conflict = new ConflictException({ message: "taken", resourceIds: ["arn:before"], $metadata: {} });
  const outcomes: readonly (readonly [string, object, LateAnswer])[] = [
    ["has no room", failures(quota)(), "none"],
    ["refuses", refusal("ecs", "RunTask", "AccessDeniedException"), "none"],
    ["is asked too often", refusal("ecs", "RunTask", "ThrottlingException"), "none"],
    ["was not asked", left, "none"],
    [
      "has given one",
      new AwsError({ service: "ecs", operation: "RunTask" }, conflict),
      { arn: "arn:before" },
    ],
    ["does not answer", refusal("ecs", "RunTask", "ECONNRESET"), "unknown"],
    ["answers in parts", refusal("ecs", "RunTask", "SyntaxError", "unexpected end", answered), "unknown"],
    ["is left with the backend", new Error("the backend is shutting down"), "unknown"],
  ];
  for (const [what, outcome, expected] of outcomes) {
    it(`tells who cleans up behind it whether there may be one where AWS ${what}`, async () => {
      const answer = Promise.withResolvers<object>();
      const { run, unanswered } = setUp(() => answer.promise);
      const over = new AbortController();
      const got = run({ signal: over.signal });
      over.abort(left);
      await assert.rejects(got, /the start is over/);
      if (outcome instanceof Error) {
        answer.reject(outcome);
      } else {
        answer.resolve(outcome);
      }
      assert.deepEqual(await unanswered.answerTo("container"), expected);
    });
  }

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
    const { run, warnings, calls, waits, until } = setUp(refused, refused, failures(quota), task("arn:2"));
    const got = run();
    await until(() => calls.length === 4);
    assert.equal(await got, "arn:2");
    assert.equal(warnings().length, 2); // AWS has put it in two ways.
    assert.match(warnings()[0] ?? "", /waits to be started: .*vCPUs/);
    assert.deepEqual(waits, [`ecs: RunTask: ${quota} (ClientException)`, quota]);
  });

  it("waits for a quota in line with others of its size, of whom only the first asks", async () => {
    const refused = failures(quota);
    const { run, calls, waits, until } = setUp(
      ...[refused, refused, task("arn:large"), refused],
      ...[task("arn:1"), task("arn:2"), task("arn:3")],
    );
    const got: string[] = [];
    const note = (arn: string): void => void got.push(arn);
    const first = run().then(note);
    const second = run({}, "256").then(note);
    await until(() => waits.length === 2);
    const large = run({}, "4096").then(note);
    const third = run().then(note);
    assert.equal(calls.length, 3);
    await until(() => got.length === 4);
    await Promise.all([first, second, third, large]);
    assert.deepEqual(got, ["arn:large", "arn:1", "arn:2", "arn:3"]);
    assert.equal(calls.length, 7);
  });

  it("joins the line that there is once AWS has answered, not that which there was when it was asked", async () => {
    const answer = Promise.withResolvers<object>();
    const refused = failures(quota);
    const { run, calls, waits, until, clock } = setUp(
      ...[() => answer.promise, refused, task("arn:before")],
      ...[refused, refused, refused, task("arn:1"), task("arn:2")],
    );
    const slow = run();
    assert.equal(await passing(clock, run()), "arn:before"); // Its line is over with it.
    const first = run();
    await until(() => waits.length === 2);
    answer.resolve(refused());
    await until(() => waits.length === 3);
    const asked = calls.length;
    await clock.advance(1_000);
    assert.equal(calls.length, asked + 1); // Only the first has asked again.
    await until(() => calls.length === asked + 3);
    assert.deepEqual(await Promise.all([first, slow]), ["arn:1", "arn:2"]);
  });

  it("asks at once, whoever waits, where AWS may have given a task before", async () => {
    const { run, calls } = setUp(failures(quota), task("arn:before"));
    void run();
    assert.equal(await run({ isResumed: true }), "arn:before");
    assert.equal(calls.length, 2);
  });

  it("leaves the line when it is given up, and the next one asks", async () => {
    const leave = new AbortController();
    const { run, until, calls } = setUp(failures(quota), failures(quota), task("arn:next"));
    const first = run({ signal: leave.signal });
    await until(() => calls.length === 2);
    const next = run();
    leave.abort(new Error("given up"));
    await assert.rejects(first, (error: Error) => {
      assert.ok(isErrorKind(error, "unavailable"));
      assert.match(error.message, /limit on the number of vCPUs/);
      return true;
    });
    assert.equal(await next, "arn:next");
  });

  it("waits no longer than it may, and says for how long", async () => {
    const { run, clock } = setUp(failures(quota));
    const [first, second] = [run(), run()];
    for (let minute = 0; minute <= 60; minute++) {
      await clock.advance(60_000);
    }
    for (const got of [first, second]) {
      await assert.rejects(got, (error: Error) => {
        assert.ok(isErrorKind(error, "unavailable"));
        assert.match(error.message, /number of vCPUs .*\(after 3600 s, ecs\.quota_timeout\)$/);
        return true;
      });
    }
  });

  it("waits no longer than a start may where nothing runs whose end would make room", async () => {
    const { run, clock, room, until } = setUp(failures(quota));
    let failure = "";
    const [first, second] = [run(), run()];
    first.catch((error: Error) => {
      failure = error.message;
    });
    await until(() => clock.nowMs() > 2 * startTimeoutMs, 1_000);
    assert.equal(failure, "");
    room.isExpected = false;
    const sinceMs = clock.nowMs();
    await until(() => failure !== "", 1_000);
    assert.match(
      failure,
      /number of vCPUs .*for 300 s \(ecs\.start_timeout\) no task has run in the cluster/,
    );
    assert.ok(clock.nowMs() - sinceMs >= startTimeoutMs);
    await until(() => clock.nowMs() - sinceMs > startTimeoutMs + 20_000);
    await assert.rejects(second, /no task has run/); // It has waited as long, behind the first.
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
