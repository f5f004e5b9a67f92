import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { isErrorKind } from "../../../common/errors.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import { TaskPhase, type TaskRecord, TaskRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { LaunchProgress } from "../../common/driver.ts";
import type { State } from "../../common/state/state.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { fakeClient, refusal } from "../testing/fake-client.ts";
import { passing } from "../testing/passing.ts";
import { workloadSpec } from "../testing/workload-spec.ts";
import { launch } from "./launch.ts";
import { QuotaLines } from "./quota-lines.ts";
import { TaskBook, type TaskFields } from "./task-book.ts";
import type { TaskContext } from "./task-context.ts";
import { UnansweredRequests } from "./unanswered-requests.ts";

const never = (): Promise<never> => new Promise(() => {});
const container = "c".repeat(64);

const run = {
  startTimeoutMs: 50,
  quotaTimeoutMs: 3_600_000,
  subnets: [],
  capacityProvider: "FARGATE",
  authorityPin: new Uint8Array(32),
};
/** One that may take as long as the test. */
const unhurried = { run: { ...run, startTimeoutMs: 3_600_000 } };

/** A start that may take 50 ms. */
function setUp(parts: object, known?: TaskFields) {
  const tasks = new Map<string, TaskRecord>();
  if (known !== undefined) {
    tasks.set(
      container,
      create(TaskRecordSchema, { ...known, containerId: container } as MessageInitShape<
        typeof TaskRecordSchema
      >),
    );
  }
  const put = (record: TaskRecord): void => void tasks.set(record.containerId, record);
  const commit = (change: (tables: object) => void): Promise<void> => {
    change({ tasks: { put } });
    return Promise.resolve();
  };
  const { client, calls } = fakeClient({ RunTask: never });
  const context = {
    ecs: client,
    book: new TaskBook({ tasks, commit } as unknown as State),
    clock: new ManualClock(),
    logger: capturedLogger().logger,
    quotaLines: new QuotaLines(),
    unanswered: new UnansweredRequests(),
    taskImage: () => ({ reference: "image" }),
    definitions: { ensure: () => Promise.resolve("definition:1") },
    networks: { groupsOf: () => Promise.resolve(["sg-1"]) },
    run,
    definition: { instance: "sockerless/01", agent: { kind: "image", image: "agent" } },
    ...parts,
  } as unknown as TaskContext;
  const start = (progress?: LaunchProgress) =>
    launch(context, workloadSpec(), new AbortController().signal, progress);
  return { start, calls, tasks };
}

const serving = { phase: TaskPhase.SERVING, generation: 1n, task: "arn:now", address: "192.0.2.1" };
const agents = {
  addressOf: ({ address }: TaskRecord) => ({ kind: "tcp", host: address, port: 1, pin: new Uint8Array(32) }),
  targetOf: () => undefined,
};

describe("a start", () => {
  const waits: readonly (readonly [string, object, RegExp])[] = [
    ["the definition", { definitions: { ensure: never } }, /: ECS has not registered its task definition$/],
    ["the groups", { networks: { groupsOf: never } }, /: EC2 has not told its security groups$/],
  ];
  for (const [what, parts, expected] of waits) {
    it(`does not wait longer for ${what} than it may, and says so`, async () => {
      const { start, calls } = setUp(parts);
      await assert.rejects(start(), (error: Error) => {
        assert.ok(isErrorKind(error, "system"));
        assert.match(error.message, /was not ready within 0\.05 s \(ecs\.start_timeout\)/);
        assert.match(error.message, expected);
        return true;
      });
      assert.equal(calls.length, 0);
    });
  }

  it("does not wait longer than it may for the end of the last one's task", async () => {
    const agents = { letGo: () => Promise.resolve(false) };
    const known = { phase: TaskPhase.LINGERING, task: "arn:before", request: "{}" };
    const { start, tasks } = setUp({ agents, departures: { stop: never } }, known);
    await assert.rejects(start(), /start_timeout\): the task of its last run is still there$/);
    assert.equal(tasks.get(container)?.task, "arn:before");
  });

  it("waits as long as it may until the agent has listed the files of the image", async () => {
    const awaitFiles = (_task: TaskRecord, signal: AbortSignal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      });
    const { start } = setUp({ agents: { ...agents, awaitFiles } }, serving);
    await assert.rejects(start(), /start_timeout\): its agent has not listed the files of its image yet$/);
  });

  it("tells that the agent answers while that lists the files of the image", async () => {
    const told = Promise.withResolvers<string>();
    const { start } = setUp({ agents: { ...agents, awaitFiles: () => told.promise } }, serving);
    const launched = await start({
      reached({ address = "" }) {
        told.resolve(address);
        return Promise.resolve();
      },
    });
    assert.equal(await told.promise, launched.address);
  });

  it("that fails leaves nothing behind that still goes on", async () => {
    const begun = Promise.withResolvers<void>();
    const awaitFiles = () => begun.promise.then(() => Promise.reject(new Error("no files")));
    const { start } = setUp({ agents: { ...agents, awaitFiles } }, serving);
    let isOver = false;
    const starting = start({
      async reached() {
        begun.resolve();
        await new Promise((resolve) => setImmediate(resolve));
        isOver = true;
      },
    });
    await assert.rejects(starting, /no files/);
    assert.ok(isOver);
  });

  it("has its time for itself, without the wait for a quota", async ({ mock }) => {
    mock.timers.enable({ apis: ["setTimeout"] }); // The start's limit.
    const reason = "You've reached the limit on the number of vCPUs you can run concurrently";
    const answers = [{ failures: [{ reason }] }, { tasks: [{ taskArn: "arn:task" }] }];
    const { client } = fakeClient({ RunTask: () => answers.shift() });
    const clock = new ManualClock();
    const awaited = Promise.withResolvers<void>();
    const listen = () => {
      awaited.resolve();
      return () => {};
    };
    const { start, tasks } = setUp({ ecs: client, clock, poller: { listen } });
    const waiting = Promise.withResolvers<string>();
    let failed = false;
    let goesOn = false;
    const started = start({
      waits: waiting.resolve,
      goesOn() {
        goesOn = true;
      },
    });
    started.catch(() => {
      failed = true;
    });
    assert.equal(await waiting.promise, reason);
    mock.timers.tick(120);
    await clock.advance(0);
    assert.deepEqual({ failed, goesOn }, { failed: false, goesOn: false });
    await clock.advance(1_000);
    await awaited.promise;
    mock.timers.tick(50);
    await assert.rejects(started, /start_timeout\): ECS does not show it$/);
    assert.equal(goesOn, true);
    assert.equal(tasks.get(container)?.task, "arn:task");
  });

  it("leaves it to who cleans up behind it whether there is a task, where AWS's answer was lost", async () => {
    for (const [code, isUnclear] of [
      ["ECONNRESET", true],
      ["ThrottlingException", false],
      ["AccessDeniedException", false],
    ] as const) {
      const { client } = fakeClient({
        RunTask: () => {
          throw refusal("ecs", "RunTask", code);
        },
      });
      const unanswered = new UnansweredRequests();
      await assert.rejects(setUp({ ecs: client, unanswered }).start(), new RegExp(code));
      assert.equal(await unanswered.answerTo(container), isUnclear ? "unknown" : "none", code);
    }
  });

  it("leaves it so, too, where AWS refuses it later", async () => {
    const codes = ["ECONNRESET", "AccessDeniedException"];
    const { client } = fakeClient({
      RunTask: () => {
        throw refusal("ecs", "RunTask", codes.shift() ?? "");
      },
    });
    const unanswered = new UnansweredRequests();
    const clock = new ManualClock();
    const { start } = setUp({ ecs: client, unanswered, clock, ...unhurried });
    await assert.rejects(passing(clock, start()), /AccessDenied/);
    assert.equal(await unanswered.answerTo(container), "unknown");
  });

  it("does not wait longer than it may for a task", async () => {
    const send = (_command: object, { abortSignal }: { readonly abortSignal: AbortSignal }) =>
      new Promise((_resolve, reject) => {
        abortSignal.addEventListener("abort", () => reject(abortSignal.reason as Error));
      });
    const { start, tasks } = setUp({ ecs: { send } });
    await assert.rejects(start(), /start_timeout\): ECS has not answered RunTask$/);
    assert.equal(tasks.get(container)?.phase, TaskPhase.UNSPECIFIED);
  });
});
