import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { isErrorKind } from "../../../common/errors.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import type { CloudError } from "../contract/cloud-error.ts";
import { RequestStale, type TaskAnswer, type TaskRefusal } from "../contract/cloud-tasks.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { failedCall, noRoom, refusal, testCloud } from "../testing/cloud.ts";
import { passing } from "../testing/passing.ts";
import { placeTask, type TaskStart } from "./place-task.ts";
import { QuotaLines } from "./quota-lines.ts";
import { type LateAnswer, UnansweredRequests } from "./unanswered-requests.ts";

const startTimeoutMs = 300_000;
const quotaTimeoutMs = 3_600_000;

function setUp(...answers: (() => TaskAnswer | Promise<TaskAnswer>)[]) {
  const calls: string[] = [];
  const cloud = testCloud({
    async run(request) {
      const answer = answers[Math.min(calls.length, answers.length - 1)];
      calls.push(request);
      return await (answer?.() ?? refused());
    },
  });
  const clock = new ManualClock();
  const { logger, warnings } = capturedLogger();
  const unanswered = new UnansweredRequests();
  const lines = new QuotaLines();
  const room = { isExpected: true };
  const fits: { isTold: boolean | undefined } = { isTold: true };
  const options = {
    ...{ cloud, clock, logger, startTimeoutMs, quotaTimeoutMs, quotaLines: lines },
    requests: { sizeOf: (request: string) => request, fitsQuota: () => Promise.resolve(fits.isTold) },
    unanswered,
    isRoomExpected: () => Promise.resolve(room.isExpected),
  };
  const waits: string[] = [];
  const start = {
    containerId: "container",
    isResumed: false,
    phase: () => {},
    signal: new AbortController().signal,
    waits: (reason: string) => void waits.push(reason),
  };
  const run = (differing: Partial<TaskStart> = {}, size = "small"): Promise<string> => {
    const got = placeTask(size, { ...start, ...differing }, options);
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
  return { clock, warnings, calls, lines, run, waits, room, fits, until, unanswered };
}

const task = (name: string) => (): TaskAnswer => ({ task: name });
/** Because there is no room. */
const refused = (reason = noRoom): TaskRefusal => refusal(reason, "room");
const failure = (cause: CloudError): TaskRefusal => ({
  reason: cause.message,
  cause,
  prospect: cause.prospect,
});

describe("getting a task", () => {
  it("answers its name", async () => {
    assert.equal(await setUp(task("task/1")).run(), "task/1");
  });

  it("fails with the cloud's words where it refuses", async () => {
    const cause = failedCall("refused", "the role is not to be had");
    await assert.rejects(setUp(() => failure(cause)).run(), (error: Error) => {
      assert.ok(isErrorKind(error, "system"));
      assert.equal(error.message, "failed to start a task for the container: the role is not to be had");
      assert.equal(error.cause, cause);
      return true;
    });
  });

  it("is asked for some ten times a second, however many sizes wait, and forgets those that do not", async () => {
    const { clock, calls, run, lines } = setUp(() => refused());
    const left = new AbortController();
    for (let size = 0; size < 300; size++) {
      void run({ signal: left.signal }, `size ${size}`);
    }
    await clock.advance(0);
    assert.equal(calls.length, 300);
    for (let seconds = 0; seconds < 60; seconds++) {
      await clock.advance(1_000);
    }
    assert.equal(lines.size, 300);
    assert.ok(calls.length > 600 && calls.length <= 300 + 60 * 10, `${calls.length}`);
    left.abort();
    await clock.advance(0);
    assert.equal(lines.size, 0);
    lines.of("another size");
    assert.equal(lines.size, 0);
  });

  it("leaves the request that is on its way to who cleans up, when its start is over", async () => {
    const answer = Promise.withResolvers<TaskAnswer>();
    const { run, unanswered } = setUp(() => answer.promise);
    const over = new AbortController();
    const got = run({ signal: over.signal });
    over.abort(new Error("the start is over"));
    await assert.rejects(got, /the start is over/);
    answer.resolve({ task: "task/late" });
    assert.deepEqual(await unanswered.answerTo("container"), { task: "task/late" });
  });

  const left = new Error("the start is over");
  const outcomes: readonly (readonly [string, TaskAnswer | Error, LateAnswer])[] = [
    ["has no room", refused(), "none"],
    ["refuses", failure(failedCall("refused")), "none"],
    ["is asked too often", failure(failedCall("throttled")), "none"],
    ["has lost what the request names", new RequestStale(), "none"],
    ["was not asked", left, "none"],
    ["has given one", { task: "task/before" }, { task: "task/before" }],
    ["does not answer", failure(failedCall("unknown")), "unknown"],
    ["is left with the backend", new Error("the backend is shutting down"), "unknown"],
  ];
  for (const [what, outcome, expected] of outcomes) {
    it(`tells who cleans up behind it whether there may be one where the cloud ${what}`, async () => {
      const answer = Promise.withResolvers<TaskAnswer>();
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

  it("fails after one answer where the quota is less than the task needs", async () => {
    const { run, fits, calls } = setUp(refused);
    fits.isTold = false;
    await assert.rejects(run(), /there is no room for more tasks; the container needs more than that$/);
    assert.equal(calls.length, 1);
  });

  it("fails after one answer where nobody knows the quota and no task is there whose end would make room", async () => {
    const { run, fits, room, calls, until } = setUp(refused);
    fits.isTold = undefined;
    const waiting = run();
    await until(() => calls.length > 1);
    room.isExpected = false;
    await until(() => calls.length > 2);
    await assert.rejects(
      waiting,
      /; no task is in the sky whose end would make room: the container needs more/,
    );
    calls.length = 0;
    await assert.rejects(run(), /no task is in the sky/);
    assert.equal(calls.length, 1);
  });

  it("waits for a quota and says so once", async () => {
    const otherwise = `StartTask: ${noRoom}`;
    const { run, warnings, calls, waits, until } = setUp(
      ...[() => refused(otherwise), () => refused(otherwise), refused, task("task/2")],
    );
    const got = run();
    await until(() => calls.length === 4);
    assert.equal(await got, "task/2");
    assert.equal(warnings().length, 2); // The cloud has put it in two ways.
    assert.match(warnings()[0] ?? "", /waits to be started: .*no room/);
    assert.deepEqual(waits, [otherwise, noRoom]);
  });

  it("waits for a quota in line with others of its size, of whom only the first asks", async () => {
    const { run, calls, waits, until } = setUp(
      ...[refused, refused, task("task/large"), refused],
      ...[task("task/1"), task("task/2"), task("task/3")],
    );
    const got: string[] = [];
    const note = (name: string): void => void got.push(name);
    const first = run().then(note);
    const second = run({}).then(note);
    await until(() => waits.length === 2);
    const large = run({}, "large").then(note);
    const third = run().then(note);
    assert.equal(calls.length, 3);
    await until(() => got.length === 4);
    await Promise.all([first, second, third, large]);
    assert.deepEqual(got, ["task/large", "task/1", "task/2", "task/3"]);
    assert.equal(calls.length, 7);
  });

  it("joins the line that there is once the cloud has answered, not that which there was when it was asked", async () => {
    const answer = Promise.withResolvers<TaskAnswer>();
    const { run, calls, waits, until, clock } = setUp(
      ...[() => answer.promise, refused, task("task/before")],
      ...[refused, refused, refused, task("task/1"), task("task/2")],
    );
    const slow = run();
    assert.equal(await passing(clock, run()), "task/before"); // Its line is over with it.
    const first = run();
    await until(() => waits.length === 2);
    answer.resolve(refused());
    await until(() => waits.length === 3);
    const asked = calls.length;
    await clock.advance(1_000);
    assert.equal(calls.length, asked + 1); // Only the first has asked again.
    await until(() => calls.length === asked + 3);
    assert.deepEqual(await Promise.all([first, slow]), ["task/1", "task/2"]);
  });

  it("asks at once, whoever waits, where the cloud may have given a task before", async () => {
    const { run, calls } = setUp(refused, task("task/before"));
    void run();
    assert.equal(await run({ isResumed: true }), "task/before");
    assert.equal(calls.length, 2);
  });

  it("leaves the line when it is given up, and the next one asks", async () => {
    const leave = new AbortController();
    const { run, until, calls } = setUp(refused, refused, task("task/next"));
    const first = run({ signal: leave.signal });
    await until(() => calls.length === 2);
    const next = run();
    leave.abort(new Error("given up"));
    await assert.rejects(first, (error: Error) => {
      assert.ok(isErrorKind(error, "unavailable"));
      assert.match(error.message, /no room for more tasks/);
      return true;
    });
    assert.equal(await next, "task/next");
  });

  it("waits no longer than it may, and says for how long", async () => {
    const { run, clock } = setUp(refused);
    const [first, second] = [run(), run()];
    for (let minute = 0; minute <= 60; minute++) {
      await clock.advance(60_000);
    }
    for (const got of [first, second]) {
      await assert.rejects(got, (error: Error) => {
        assert.ok(isErrorKind(error, "unavailable"));
        assert.match(error.message, /no room for more tasks \(after 3600 s, nimbus\.quota_timeout\)$/);
        return true;
      });
    }
  });

  it("waits no longer than a start may where nothing runs whose end would make room", async () => {
    const { run, clock, room, until } = setUp(refused);
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
      /no room for more tasks; for 300 s \(nimbus\.start_timeout\) no task has run in the sky/,
    );
    assert.ok(clock.nowMs() - sinceMs >= startTimeoutMs);
    await until(() => clock.nowMs() - sinceMs > startTimeoutMs + 20_000);
    await assert.rejects(second, /no task has run/); // It has waited as long, behind the first.
  });
});
