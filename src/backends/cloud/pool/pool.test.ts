import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";

import { preparedAsked, preparedWaited } from "../../../common/metrics/measure.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import type { PoolRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../state/state.ts";
import { RequestStale, type TaskAnswer, type TaskView } from "../contract/cloud-tasks.ts";
import { unlessAborted } from "../../concurrency/unless-aborted.ts";
import type { FoundAgent } from "../contract/agent-finder.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { refusal, taskView, testCloud } from "../testing/cloud.ts";
import { TaskPoller } from "../tasks/poller.ts";
import type { TaskBook } from "../tasks/task-book.ts";
import { Pool, type PoolOptions } from "./pool.ts";
import { Spending } from "./spending.ts";
import type { Wanted } from "./templates.ts";

const minuteMs = 60_000;
/** A look at the cloud, and what follows from it. */
const lookMs = 12_000;

/** A pool over a cloud in memory, of two tasks of the shape "a" unless said otherwise. */
function setUp(
  given: Partial<PoolOptions> & {
    readonly idleHours?: number;
    readonly answer?: () => Promise<TaskAnswer>;
    readonly found?: readonly TaskView[];
    /** Awaited by each answer of the cloud, whose task runs before. */
    readonly late?: () => Promise<void>;
  } = {},
) {
  const clock = new ManualClock();
  const running = new Map((given.found ?? []).map((view) => [view.task, view]));
  const stopped: string[] = [];
  let isStopRefused = false;
  let asked = 0;
  const cloud = testCloud({
    async run(request) {
      asked += 1;
      if (given.answer !== undefined) {
        return await given.answer();
      }
      const { name, shape } = JSON.parse(request) as { readonly name: string; readonly shape: string };
      const task = `task/${asked}`;
      const times = { created: new Date(clock.nowMs()) };
      running.set(task, taskView({ task, prepared: { name, shape }, address: "192.0.2.1", times }));
      await given.late?.();
      return { task };
    },
    async stop(task) {
      if (isStopRefused) {
        throw new Error("not now");
      }
      stopped.push(task);
      running.delete(task);
    },
    listOwn: async () => [...running.keys()],
    describe: async (tasks) => ({
      views: tasks.flatMap((task) => running.get(task) ?? []),
      missing: tasks.filter((task) => !running.has(task)),
    }),
  });
  const { logger } = capturedLogger();
  const kept = new Map<string, PoolRecord>();
  const commit = async (describe: (change: object) => void): Promise<void> =>
    describe({ pool: { put: (record: PoolRecord) => kept.set(record.id, record) } });
  const limits = { idleHours: given.idleHours ?? Infinity, cost: Infinity };
  const spending = new Spending({ state: { pool: kept, commit } as unknown as State, clock, limits });
  const poller = new TaskPoller({ cloud, clock, logger, intervalMs: 1000 });
  const pool = new Pool({
    cloud,
    prepared: {
      isMadeWith: { networks: true, anonymousVolumes: false },
      shapeOf: (request) => request,
      differences: () => ["the image"],
      sizeOf: () => ({ vcpus: 1, gib: 2 }),
      prepare: (_request, { name, shape }) => JSON.stringify({ name, shape }),
      claim: async () => {},
    },
    poller,
    finder: {
      await: async (): Promise<FoundAgent> => ({ address: "192.0.2.1", pin: new Uint8Array(32) }),
      describeSilence: () => "",
    },
    book: { all: () => [] },
    instance: "one",
    wanted: async () => [{ request: "a", kind: "a", count: 2 }],
    isRoomAwaited: () => false,
    spending,
    costOf: () => 0.5,
    currency: "EUR",
    maxTasks: 10,
    maxAgeMs: 60 * minuteMs,
    startTimeoutMs: 5 * minuteMs,
    callToken: () => "",
    clock,
    logger,
    ...given,
  });
  opened.push(async () => {
    await pool.close();
    await poller.close();
  });
  const missed: string[] = [];
  return {
    ...{ pool, clock, running, stopped, missed },
    take: (request: string, signal = new AbortController().signal) =>
      pool.take(request, (reason) => missed.push(reason), signal),
    asked: () => asked,
    /** Lets time go by in small steps, so that what follows from a round is done. */
    async pass(ms: number): Promise<void> {
      for (let left = ms; left > 0; left -= 500) {
        await clock.advance(500);
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
    refuseStops: (isRefused: boolean) => {
      isStopRefused = isRefused;
    },
  };
}

const opened: (() => Promise<void>)[] = [];

/** Agents that answer once their tasks' promises resolve. */
function agentsThat(answer: (task: string) => Promise<void>): PoolOptions["finder"] {
  return {
    async await(_id, { task }, signal): Promise<FoundAgent> {
      await unlessAborted(signal, answer(task));
      return { address: "192.0.2.1", pin: new Uint8Array(32) };
    },
    describeSilence: () => "",
  };
}

/** A pool of one task, whose agents answer once told to, and a start that waits for it. */
async function setUpAwaited(given: Parameters<typeof setUp>[0] = {}) {
  const answers = new Map<string, PromiseWithResolvers<void>>();
  const answerOf = (task: string): PromiseWithResolvers<void> => {
    const answer = answers.get(task) ?? Promise.withResolvers<void>();
    answers.set(task, answer);
    return answer;
  };
  const finder = agentsThat((task) => answerOf(task).promise);
  const wanted = async (): Promise<readonly Wanted[]> => [{ request: "a", kind: "a", count: 1 }];
  const made = setUp({ wanted, finder, ...given });
  await made.clock.advance(0);
  await made.pass(5_000);
  const client = new AbortController();
  let isOver = false;
  const start = made.take("a", client.signal).finally(() => {
    isOver = true;
  });
  start.catch(() => {});
  return { ...made, client, start, isOver: () => isOver, answer: (task: string) => answerOf(task).resolve() };
}

describe("a pool of prepared tasks", () => {
  afterEach(async () => {
    for (const close of opened.splice(0)) {
      await close();
    }
  });

  it("keeps as many waiting as are wanted, and gives each once", async () => {
    const { take, pass, asked, running } = setUp();
    await pass(lookMs);
    assert.equal(asked(), 2);
    const taken = [await take("a"), await take("a")].map((found) => found?.task);
    assert.deepEqual(new Set(taken), new Set(["task/1", "task/2"]));
    assert.equal(await take("a"), undefined);
    await pass(lookMs);
    assert.equal(asked(), 4, "others take their places");
    assert.equal(running.size, 4);
    const next = [await take("a"), await take("a")].map((found) => found?.task);
    assert.deepEqual(new Set(next), new Set(["task/3", "task/4"]));
  });

  it("gives one once although looks find it before the cloud has answered with it", async () => {
    const answered = Promise.withResolvers<void>();
    const { take, pass, asked, stopped } = setUp({ late: () => answered.promise });
    await pass(2 * lookMs);
    const early = [await take("a"), await take("a")];
    answered.resolve();
    await pass(1_000);
    const all = [...early, await take("a"), await take("a"), await take("a")];
    const taken = all.flatMap((found) => found?.task ?? []);
    assert.deepEqual(taken.sort(), ["task/1", "task/2"]);
    assert.deepEqual([asked(), stopped], [2, []]);
  });

  it("gives none to a container that would not have its whole time", async () => {
    const nowMs = new ManualClock().nowMs();
    const found = [10, 20].map((minutes) => {
      const claimableUntil = new Date(nowMs + minutes * minuteMs);
      const prepared = { name: String(minutes), shape: "a", claimableUntil };
      return taskView({ task: `task/${minutes} min`, prepared, address: "192.0.2.1" });
    });
    const { take, pass, clock, stopped } = setUp({ found });
    await pass(lookMs);
    await clock.advance(10 * minuteMs - lookMs);
    assert.equal((await take("a"))?.task, "task/20 min");
    assert.equal(await take("a"), undefined);
    await pass(lookMs);
    assert.deepEqual(stopped, ["task/10 min"]);
  });

  it("gives none to a request of another shape", async () => {
    const { take, pass } = setUp();
    await pass(lookMs);
    assert.equal(await take("b"), undefined);
  });

  it("tells metrics what each start has found that it gives none to", async () => {
    const told: string[] = [];
    preparedAsked.observe(({ outcome }) => told.push(outcome));
    const silent = setUp({ finder: agentsThat(() => new Promise(() => {})) });
    assert.equal(await silent.take("a"), undefined);
    await silent.pass(minuteMs);
    assert.equal(await silent.take("a"), undefined);
    const { pool, take, missed, pass, clock } = setUp({ maxAgeMs: 10 * minuteMs });
    await pass(lookMs);
    assert.equal(await take("b"), undefined);
    await pool.close();
    await clock.advance(11 * minuteMs);
    assert.equal(await take("a"), undefined);
    assert.equal(await setUp({ wanted: undefined }).take("a"), undefined);
    assert.deepEqual(told, ["none-alike", "late", "none-alike", "too-old"]);
    assert.deepEqual(silent.missed, ["no tasks are to wait now", "the task like it comes up late"]);
    assert.deepEqual(missed, [
      "it differs from the tasks for a in the image",
      "the task like it has waited for pool.max_age",
    ]);
  });

  it("lets a start wait for a task that comes up, which nobody else gets, and prepares another", async () => {
    const { pool, pass, take, start, isOver, answer, asked } = await setUpAwaited();
    await pass(5_000);
    assert.equal(isOver(), false);
    assert.equal(asked(), 2);
    answer("task/2");
    await pass(1_000);
    assert.equal((await take("a"))?.task, "task/2", "another start takes what is there");
    assert.equal(isOver(), false);
    answer("task/1");
    await pass(500);
    assert.equal((await start)?.task, "task/1");
    assert.equal(pool.agentOf("task/1")?.isAwaited, true);
    assert.equal(pool.agentOf("task/2")?.isAwaited, false);
  });

  it("gives each task that comes up to one of the starts that wait", async () => {
    const { pass, take, start, answer } = await setUpAwaited({
      wanted: async () => [{ request: "a", kind: "a", count: 2 }],
    });
    const another = take("a");
    const third = take("a");
    assert.equal(await third, undefined, "those that come up are others'");
    answer("task/2");
    answer("task/1");
    await pass(500);
    assert.deepEqual([(await start)?.task, (await another)?.task], ["task/1", "task/2"]);
  });

  it("lets a start wait no longer than until its task is late, and gives that to another then", async () => {
    const { pass, clock, take, start, isOver, missed, answer } = await setUpAwaited({ maxTasks: 1 });
    await pass(46_000); // It is 51 s old: late after one and a half of 35 s.
    assert.equal(isOver(), false);
    await pass(3_000);
    assert.equal(await start, undefined);
    assert.deepEqual(missed, ["the task like it comes up late"]);
    answer("task/1");
    await clock.advance(1);
    assert.equal((await take("a"))?.task, "task/1");
  });

  it("learns how long tasks take until they are late", async () => {
    const { pass, take, start, answer, missed } = await setUpAwaited();
    await pass(5_000);
    answer("task/1"); // After 10 s.
    await pass(1_000);
    assert.equal((await start)?.task, "task/1");
    assert.equal(missed.length, 0);
    await pass(20_000); // The next is older than 15 s.
    assert.equal(await take("a"), undefined);
    assert.deepEqual(missed, ["the task like it comes up late"]);
  });

  const leavings: Readonly<Record<string, (made: Awaited<ReturnType<typeof setUpAwaited>>) => unknown>> = {
    "the pool is drained": ({ pool }) => pool.drain(5 * minuteMs),
    "the pool is closed": ({ pool }) => pool.close(),
    "it ends": ({ running }) =>
      running.set("task/1", taskView({ task: "task/1", stopped: true, reason: "Spot" })),
    "it is another container's": ({ running }) =>
      running.set(
        "task/1",
        taskView({ task: "task/1", prepared: { name: "n", shape: "a" }, containerId: "c".repeat(64) }),
      ),
  };
  for (const [reason, leave] of Object.entries(leavings)) {
    it(`lets a start that waits for a task go on at once where ${reason}`, async () => {
      let count = 1;
      const made = await setUpAwaited({ wanted: async () => [{ request: "a", kind: "a", count, most: 1 }] });
      count = 0; // None takes its place.
      await leave(made);
      await made.pass(lookMs);
      assert.equal(made.isOver(), true);
      assert.equal(await made.start, undefined);
    });
  }

  it("lets a start that waited for a task that ended wait for another", async () => {
    const { pass, start, isOver, running, answer } = await setUpAwaited();
    await pass(2_000);
    running.set("task/1", taskView({ task: "task/1", stopped: true, reason: "Spot" }));
    await pass(3_000);
    assert.equal(isOver(), false);
    answer("task/2");
    await pass(1_000);
    assert.equal((await start)?.task, "task/2");
  });

  it("gives a task that comes up to another start if the one that waited for it is cancelled", async () => {
    const { pool, client, pass, start, take, answer } = await setUpAwaited();
    client.abort(new Error("the client has left"));
    await assert.rejects(start, /the client has left/);
    const another = take("a");
    answer("task/1");
    await pass(500);
    assert.equal((await another)?.task, "task/1");
    assert.equal(pool.agentOf("task/1")?.isAwaited, true);
  });

  it("gives no task that has become too old meanwhile", async () => {
    const { pass, start, answer, missed } = await setUpAwaited({ maxAgeMs: 10_000, maxTasks: 1 });
    await pass(6_000);
    answer("task/1");
    await pass(500);
    assert.equal(await start, undefined);
    assert.deepEqual(missed, ["the task like it has waited for pool.max_age"]);
  });

  it("keeps a task for which a start waits where others need room, or the day's limit is reached", async () => {
    const { pool, pass, start, stopped, answer } = await setUpAwaited({ idleHours: 30 / 3_600 });
    await pass(2 * lookMs);
    assert.match(pool.report().summary ?? "", /^fixed: 0 of .*; the day's limit is reached$/);
    pool.yieldRoom();
    await pass(5_000);
    assert.deepEqual(stopped, ["task/2"]);
    answer("task/1");
    await pass(500);
    assert.equal((await start)?.task, "task/1");
  });

  it("counts the time for which a start waits as the task's own only if nobody gets it", async () => {
    const told = { seconds: 0 };
    preparedWaited.observe(({ seconds }) => {
      told.seconds += seconds;
    });
    const taken = await setUpAwaited({ maxTasks: 1 });
    await taken.pass(20_000);
    taken.answer("task/1");
    await taken.pass(500);
    assert.equal((await taken.start)?.task, "task/1");
    await taken.pool.close();
    assert.ok(told.seconds >= 4 && told.seconds <= 5.5, `${told.seconds} s`);
    told.seconds = 0;
    const left = await setUpAwaited({ maxTasks: 1 });
    await left.pass(20_000);
    left.client.abort(new Error("the client has left"));
    await assert.rejects(left.start, /the client has left/);
    await left.pool.close();
    assert.ok(told.seconds >= 24 && told.seconds <= 25.5, `${told.seconds} s`);
  });

  it("tells a start that finds no task whether all are taken, are kept back, or cost too much", async () => {
    const { pool, take, missed, pass, clock } = setUp({ idleHours: 1 });
    await pass(lookMs);
    const taken = [await take("a"), await take("a"), await take("a")];
    assert.deepEqual(
      taken.map((found) => found !== undefined),
      [true, true, false],
    );
    pool.drain(minuteMs);
    const until = new Date(clock.nowMs() + minuteMs).toISOString();
    assert.equal(await take("a"), undefined);
    await pass(60 * minuteMs);
    assert.equal(await take("a"), undefined);
    assert.deepEqual(missed, [
      "none like it is left",
      `none is prepared until ${until}`,
      "the day's limit is reached",
    ]);
  });

  it("tells what becomes of each task", async () => {
    const told: string[] = [];
    const tell: PoolOptions["tell"] = ({ task, kind, happened, reason }) =>
      told.push([happened, task, kind, reason].join(" ").trim());
    const { pool, take, pass } = setUp({
      tell,
      wanted: async () => [{ request: "a", kind: "web", count: 1 }],
    });
    await pass(lookMs);
    await take("a");
    await pass(lookMs);
    pool.drain(minuteMs);
    assert.deepEqual(told, [
      "waits task/1 web",
      "taken task/1 web",
      "waits task/2 web",
      "stopped task/2 web the pool is drained",
    ]);
  });

  it("has never more than it may", async () => {
    const { pass, asked } = setUp({
      maxTasks: 1,
      wanted: async () => [{ request: "a", kind: "a", count: 5 }],
    });
    await pass(5 * lookMs);
    assert.equal(asked(), 1);
  });

  it("stops all that wait before they cost more than a day may, and begins again on the next", async () => {
    const { pass, running, stopped, asked, clock } = setUp({ idleHours: 0.25 });
    await pass(7 * minuteMs);
    assert.equal(running.size, 2);
    await pass(minuteMs);
    assert.deepEqual(new Set(stopped), new Set(["task/1", "task/2"]));
    await pass(5 * minuteMs);
    assert.equal(asked(), 2);
    const dayMs = 24 * 60 * minuteMs;
    await clock.advance(dayMs - (clock.nowMs() % dayMs));
    await pass(2 * lookMs);
    assert.equal(running.size, 2);
  });

  for (const [what, answer] of [
    ["definition", () => Promise.reject(new RequestStale("its definition is gone"))],
    ["security group", () => Promise.resolve(refusal("its security group is gone", "passes", "refused"))],
  ] as const) {
    it(`goes on without a request whose ${what} is gone`, async () => {
      const refused: string[] = [];
      const learned = { started: () => {}, refused: (request: string) => void refused.push(request) };
      const { pass, pool } = setUp({
        learned,
        wanted: async () => (refused.length === 0 ? [{ request: "a", kind: "a", count: 1 }] : []),
        answer,
      });
      await pass(lookMs);
      assert.deepEqual(refused, ["a"]);
      assert.equal(pool.report().hindrance, "", "others are prepared");
    });
  }

  it("takes over what an earlier backend has left, but for what a record or a tag names, and stops what is too much", async () => {
    const left = (task: string, view: Partial<TaskView> = {}): TaskView =>
      taskView({ task, prepared: { name: task, shape: "a" }, address: "192.0.2.1", ...view });
    const { pass, asked, stopped, take } = setUp({
      wanted: async () => [{ request: "a", kind: "a", count: 1 }],
      book: { all: () => [{ task: "task/recorded" }] } as unknown as TaskBook,
      found: [
        left("task/free"),
        left("task/recorded"),
        left("task/tagged", { containerId: "c" }),
        left("task/other", { prepared: { name: "o", shape: "o" } }),
        left("task/foreign", { instance: "two" }),
        taskView({ task: "task/own", containerId: "d" }),
      ],
    });
    await pass(lookMs);
    assert.equal(asked(), 0);
    assert.deepEqual(stopped, ["task/other"]);
    assert.equal((await take("a"))?.task, "task/free");
    assert.equal(await take("a"), undefined);
  });

  it("replaces those that have waited for long enough", async () => {
    const { pass, stopped, take } = setUp({ maxAgeMs: 10 * minuteMs });
    await pass(11 * minuteMs);
    assert.deepEqual(new Set(stopped), new Set(["task/1", "task/2"]));
    assert.ok(await take("a"));
  });

  it("stops one that came to nothing, however often that is refused, and gives it to nobody", async () => {
    const { pool, take, pass, stopped, refuseStops } = setUp();
    await pass(lookMs);
    const task = (await take("a"))?.task ?? "";
    refuseStops(true);
    pool.doom(task);
    await pass(lookMs);
    assert.deepEqual(stopped, []);
    refuseStops(false);
    await pass(lookMs);
    assert.deepEqual(stopped, [task]);
  });

  it("has never more than it may, though none comes to anything, and none can be stopped", async () => {
    const finder = agentsThat(() => Promise.reject(new Error("it has no way to it")));
    const { pass, running, refuseStops } = setUp({ finder, maxTasks: 3 });
    refuseStops(true);
    await pass(10 * minuteMs);
    assert.equal(running.size, 3);
    refuseStops(false);
    await pass(2 * lookMs);
    assert.ok(running.size <= 2);
  });

  it("makes way for a start that finds no room, and prepares none while one waits", async () => {
    let isRoomAwaited = true;
    const { pool, pass, stopped, asked } = setUp({ isRoomAwaited: () => isRoomAwaited });
    await pass(lookMs);
    assert.equal(asked(), 0);
    isRoomAwaited = false;
    await pass(lookMs);
    assert.equal(asked(), 2);
    pool.yieldRoom();
    await pass(lookMs);
    assert.deepEqual(new Set(stopped), new Set(["task/1", "task/2"]));
    assert.equal(asked(), 2);
    await pass(minuteMs);
    assert.equal(asked(), 4);
  });

  it("tells what waits, what is wanted, and what that has cost today", async () => {
    const { pool, pass } = setUp({ idleHours: 12, maxTasks: 5 });
    await pass(30 * minuteMs);
    const told = pool.report();
    assert.deepEqual(
      told.tasks?.map(({ task, kind, ready, costPerHour }) => [task, kind, ready, costPerHour]),
      [
        ["task/1", "a", true, 0.5],
        ["task/2", "a", true, 0.5],
      ],
    );
    assert.deepEqual(told.wanted, [{ kind: "a", least: 2, most: 2, waiting: 2 }]);
    assert.equal(told.summary, "fixed: 2 of at most 5 wait; 1.00 of 12 idle hours and 0.50 EUR today");
    assert.equal(setUp({ wanted: undefined }).pool.report().summary, "off");
  });

  it("that is drained stops all that wait, and prepares none for that time, which it tells", async () => {
    const { pool, pass, stopped, asked } = setUp();
    await pass(lookMs);
    assert.equal(pool.drain(10 * minuteMs), 2);
    pool.yieldRoom(); // Does not make that time shorter.
    await pass(5 * minuteMs);
    assert.deepEqual(new Set(stopped), new Set(["task/1", "task/2"]));
    assert.equal(asked(), 2);
    assert.match(
      pool.report().summary ?? "",
      /^fixed: 0 of at most 10 wait; .* today; none is prepared until /,
    );
    await pass(6 * minuteMs);
    assert.equal(asked(), 4);
    assert.equal(pool.report().hindrance, "");
  });

  it("tells metrics how long tasks wait, and what that costs", async () => {
    const told = { seconds: 0, cost: 0 };
    preparedWaited.observe(({ seconds, cost }) => {
      told.seconds += seconds;
      told.cost += cost;
    });
    const { pass, pool } = setUp();
    await pass(30 * minuteMs);
    await pool.close();
    const hours = told.seconds / 3600;
    assert.ok(hours > 0.9 && hours <= 1, `${hours} hours`);
    assert.ok(Math.abs(told.cost - hours * 0.5) < 1e-9, `${told.cost} for ${hours} hours`);
  });

  it("tells that its day's limit is reached", async () => {
    const { pool, pass } = setUp({ idleHours: 0.5 });
    await pass(20 * minuteMs);
    assert.match(pool.report().summary ?? "", /^fixed: 0 of .*; the day's limit is reached$/);
  });

  it("does not ask again and again where the cloud gives no task", async () => {
    const { pass, asked } = setUp({
      answer: async () => refusal("no"),
      wanted: async () => [{ request: "a", kind: "a", count: 1 }],
    });
    await pass(minuteMs);
    assert.equal(asked(), 1);
    await pass(minuteMs);
    assert.equal(asked(), 2);
  });

  it("that is switched off asks for nothing, and stops what an earlier backend has left", async () => {
    const { pool, pass, asked, stopped } = setUp({ wanted: undefined });
    await pass(lookMs);
    assert.equal(asked(), 0);
    pool.seen([taskView({ task: "task/left", prepared: { name: "n", shape: "a" } })]);
    await pass(1000);
    assert.deepEqual(stopped, ["task/left"]);
  });
});
