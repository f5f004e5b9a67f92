import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { isErrorKind } from "../../../common/errors.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { LatestOnly } from "../../concurrency/latest-only.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import { TaskPhase, type TaskRecord, TaskRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { FoundExit } from "../../driver/workloads.ts";
import type { State } from "../../state/state.ts";
import { LinesLate } from "../contract/cloud-log.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { taskView, testCloud } from "../testing/cloud.ts";
import type { Leaving } from "./departures.ts";
import { end, release, remove, resumeDepartures } from "./endings.ts";
import { lingersUntilMs } from "./lingering.ts";
import type { FailureListener, TaskListener } from "./poller.ts";
import { TaskBook } from "./task-book.ts";
import type { TaskContext } from "./task-context.ts";
import type { ReportedEnds } from "./reported-end.ts";
import { type LateAnswer, UnansweredRequests } from "./unanswered-requests.ts";

const containerId = "c".repeat(64);
const serving = { containerId, task: "task/1", phase: TaskPhase.SERVING };

/** A book of one record, with what is written to it. */
function bookOf(record: MessageInitShape<typeof TaskRecordSchema> = serving) {
  const tasks = new Map([[containerId, create(TaskRecordSchema, record)]]);
  const put = (changed: TaskRecord): void => void tasks.set(changed.containerId, changed);
  const commit = async (change: (tables: object) => void): Promise<void> => change({ tasks: { put } });
  return { tasks, book: new TaskBook({ tasks, commit } as unknown as State, testCloud()) };
}
/** An agent that serves no later start than its record. */
const answering = { targetOf: () => ({}), laterStartOf: () => Promise.resolve(undefined) };
const lingerMs = 60_000;
const drainMs = 30_000;

/** Releases a run whose exit its agent dates so much off this clock; its log takes long to come. */
async function releaseRun(
  aheadMs: number,
  parts: object = {},
): Promise<{ readonly stayMs: number; readonly expectedMs: number }> {
  const clock = new ManualClock();
  const { tasks, book } = bookOf();
  const exitMs = clock.nowMs();
  let expectedMs = 0;
  const context = {
    book,
    agents: {
      ...answering,
      endRun: () =>
        Promise.resolve({
          code: 0,
          oomKilled: false,
          finishedAt: new Date(exitMs + aheadMs),
          platformStop: false,
        }),
    },
    stored: { drain: () => clock.advance(drainMs) },
    abandoned: new AbortController().signal,
    departures: {
      expect: (_task: string, atMs: number) => {
        expectedMs = atMs - exitMs;
      },
    },
    startSettings: { lingerMs, drainTimeoutMs: 20_000 },
    cloud: testCloud(),
    clock,
    ...parts,
  } as unknown as TaskContext;
  await release(context, containerId, false);
  return { stayMs: lingersUntilMs(tasks.get(containerId)) - exitMs, expectedMs };
}

describe("the linger of a task", () => {
  it("counts from the exit, as its agent counts, however long its log takes to come", async () => {
    assert.deepEqual(await releaseRun(0), { stayMs: lingerMs, expectedMs: lingerMs });
  });

  it("is not longer than it can be where the task's clock is ahead", async () => {
    assert.deepEqual(await releaseRun(3_600_000), { stayMs: lingerMs, expectedMs: lingerMs });
  });
});

describe("an agent that stays longer than it lingers, for its log to be taken", () => {
  for (const [what, own, isLetGo] of [
    ["is let go once that is over", 1_000, true],
    ["leaves by itself where it lingers for longer", lingerMs, false],
  ] as const) {
    it(what, async () => {
      const told: { readonly letGo?: unknown }[] = [];
      await releaseRun(0, {
        departures: { expect: (...args: readonly object[]) => void told.push(...args) },
        startSettings: { lingerMs: own, drainTimeoutMs: 20_000 },
      });
      assert.equal(typeof told[3]?.letGo === "function", isLetGo);
    });
  }
});

describe("a backend that begins anew", () => {
  it("is asked again for agents that are leaving by clients whose connections it has cut", () => {
    const phases = [TaskPhase.SERVING, TaskPhase.LINGERING, TaskPhase.GONE];
    const tasks = phases.map((phase) => create(TaskRecordSchema, { task: `task/${phase}`, phase }));
    const known: TaskRecord[] = [];
    const watched: string[] = [];
    resumeDepartures({
      book: { all: () => tasks },
      agents: { addressOf: (task: TaskRecord) => void known.push(task) },
      departures: { expect: (task: string) => void watched.push(task) },
      startSettings: { lingerMs, drainTimeoutMs: 20_000 },
    } as unknown as TaskContext);
    assert.deepEqual(known, tasks);
    assert.deepEqual(watched, [`task/${TaskPhase.LINGERING}`]);
  });
});

describe("the log of a run", () => {
  const lost = () => Promise.reject(new Error("it does not answer"));
  for (const [what, endRun, left] of [
    ["whose agent has left", lost, [containerId]],
    ["that was never begun", () => Promise.resolve(undefined), []],
  ] as const) {
    it(`${what} is ${left.length > 0 ? "" : "not "}read from the cloud`, async () => {
      const leftToCloud: string[] = [];
      const { book } = bookOf();
      const context = {
        book,
        agents: { ...answering, endRun, letGo: () => Promise.resolve(true) },
        poller: {
          describe: () => Promise.resolve({ views: [taskView({ stopped: true })], failed: new Map() }),
        },
        stored: { leaveToCloud: async (id: string) => void leftToCloud.push(id) },
        departures: { expect: () => {} },
        clock: new ManualClock(),
        logger: { warn: () => {} },
      } as unknown as TaskContext;
      await release(context, containerId, false);
      assert.deepEqual(leftToCloud, left);
    });
  }
});

describe("a log that cannot be taken", () => {
  for (const [where, isLogKept, words] of [
    ["is read from the cloud, which is told", true, /, and is read from NimbusLog: the disk is full$/],
    [
      "is told to be lost where the cloud keeps none",
      false,
      /, and .* is lost \(NimbusLog has none\): the disk is full$/,
    ],
  ] as const) {
    it(where, async () => {
      const { logger, warnings } = capturedLogger();
      await releaseRun(0, {
        stored: { drain: () => Promise.reject(new Error("the disk is full")), isLogKept },
        logger,
      });
      assert.match(warnings().join("\n"), words);
    });
  }
});

describe("a backend that ends while a run is released", () => {
  const ending = new AbortController();
  const reason = new Error("the backend is shutting down");
  ending.abort(reason);

  it("leaves a log that it has not taken to the next one", async () => {
    const { logger, warnings } = capturedLogger();
    const { tasks, book } = bookOf();
    const drain = (_id: string, _run: object, signal: AbortSignal): Promise<void> =>
      Promise.reject(signal.reason);
    const parts = { book, stored: { drain, isLogKept: true }, logger, abandoned: ending.signal };
    await assert.rejects(releaseRun(0, parts), reason);
    assert.deepEqual([tasks.get(containerId)?.phase, warnings()], [TaskPhase.SERVING, []]);
  });

  it("takes a log that nobody else has", async () => {
    const { book } = bookOf();
    const drain = (_id: string, _run: object, signal: AbortSignal): Promise<void> =>
      Promise.resolve(signal.throwIfAborted());
    await releaseRun(0, { book, stored: { drain, isLogKept: false }, abandoned: ending.signal });
  });

  it("leaves that to the next one, too, where it takes long", async () => {
    const { logger, warnings } = capturedLogger();
    const { tasks, book } = bookOf();
    const clock = new ManualClock();
    const drain = (_id: string, _run: object, signal: AbortSignal): Promise<void> =>
      new Promise((_, reject) => void onAbort(signal, () => reject(signal.reason)));
    const stored = { drain, isLogKept: false };
    const released = releaseRun(0, { book, stored, logger, clock, abandoned: ending.signal });
    const left = assert.rejects(released, reason);
    await new Promise(setImmediate); // The log is asked for.
    await clock.advance(15_000);
    await left;
    assert.deepEqual([tasks.get(containerId)?.phase, warnings()], [TaskPhase.SERVING, []]);
  });

  it("does not wait for what a cloud tells of a task's end", async () => {
    const parts = {
      agents: {
        ...answering,
        endRun: () => Promise.reject(new Error("it does not answer")),
        letGo: () => Promise.resolve(true),
      },
      poller: {
        describe: () => Promise.resolve({ views: [taskView()], failed: new Map() }),
        listen: () => () => {},
      },
      stored: { leaveToCloud: () => Promise.resolve() },
      logger: { warn: () => {} },
      abandoned: ending.signal,
    };
    await releaseRun(0, parts);
  });
});

describe("a run that its platform has stopped", () => {
  const taken = taskView({ interruption: "its capacity was taken back" });
  const finishedAt = new Date();
  const ended = { code: 143, oomKilled: false, finishedAt, platformStop: true };

  for (const [agent, now, endRun, leaves = false] of [
    ["still answers", taken, () => Promise.resolve(ended)],
    ["still answers, and the cloud tells once it has left", taskView(), () => Promise.resolve(ended)],
    ["leaves behind its answer, and the cloud tells later", taskView(), () => Promise.resolve(ended), true],
    ["has left", taken, () => Promise.reject(new Error("it does not answer"))],
    [
      "has left, and the cloud tells later",
      taskView(),
      () => Promise.reject(new Error("it does not answer")),
      true,
    ],
  ] as const) {
    it(`ends for the reason that the cloud tells, where its agent ${agent}`, async () => {
      const { tasks, book } = bookOf();
      let isStopped = false;
      await release(
        {
          book,
          agents: { ...answering, endRun, letGo: () => Promise.resolve(!leaves) },
          poller: {
            describe: () => Promise.resolve({ views: [now], failed: new Map() }),
            listen(_task: string, hear: TaskListener) {
              hear(taskView());
              hear({ ...(isStopped ? taskView() : taken), stopped: true });
              return () => {};
            },
          },
          stored: { drain: () => Promise.resolve(), leaveToCloud: () => Promise.resolve() },
          departures: {
            expect: () => {},
            stop() {
              isStopped = true; // and that would be the reason
              return Promise.resolve();
            },
          },
          startSettings: { lingerMs: 60_000, drainTimeoutMs: 20_000 },
          clock: new ManualClock(),
          logger: { warn: () => {} },
          abandoned: new AbortController().signal,
        } as unknown as TaskContext,
        containerId,
        false,
      );
      assert.match(tasks.get(containerId)?.endReason ?? "", /capacity was taken back/);
    });
  }
});

describe("a start that came to nothing", () => {
  const outcomes: readonly (readonly [string, LateAnswer | undefined, number, number])[] = [
    ["once where the cloud has answered that start", undefined, 1, 0],
    ["once where the cloud has refused it after its end", "none", 1, 0],
    [
      "again once every task is listed where nobody knows what the cloud has made of it",
      "unknown",
      2,
      10_000,
    ],
    ["not at all where the cloud tells its task", { task: "task/late" }, 0, 0],
  ];
  for (const [how, late, listings, sleptMs] of outcomes) {
    it(`is looked for in the cloud ${how}`, async () => {
      const clock = new ManualClock();
      const beganMs = clock.nowMs();
      const { tasks, book } = bookOf({ containerId });
      let listed = 0;
      const cloud = testCloud({
        async listOwn() {
          listed++;
          return [];
        },
      });
      const unanswered = new UnansweredRequests();
      if (late !== undefined) {
        unanswered.leave(containerId, Promise.resolve(late));
      }
      const stopped: string[] = [];
      const context = {
        book,
        cloud,
        poller: { describe: () => Promise.resolve({ views: [], failed: new Map() }) },
        instance: "one",
        departures: {
          expect: () => {},
          stop: (task: string) => {
            stopped.push(task);
            return Promise.resolve();
          },
        },
        clock: {
          nowMs: () => clock.nowMs(),
          nowNs: () => clock.nowNs(),
          // Nobody else sleeps by it.
          sleep: (ms: number) => clock.advance(ms),
        },
        unanswered,
        searches: new LatestOnly(),
        abandoned: new AbortController().signal,
      } as unknown as TaskContext;
      await release(context, containerId, false);
      assert.equal(listed, listings);
      assert.equal(clock.nowMs() - beganMs, sleptMs);
      assert.deepEqual(stopped, typeof late === "object" ? [late.task] : []);
      assert.equal(tasks.get(containerId)?.phase, TaskPhase.GONE);
      assert.equal(await unanswered.answerTo(containerId), "none");
    });
  }
});

describe("a removed container of which a later task runs than the state knew", () => {
  for (const [what, refused, left] of [
    ["has that stopped before its record is forgotten", undefined, []],
    ["stays where the cloud refuses that", new Error("refused"), [containerId]],
  ] as const) {
    it(what, async () => {
      const done: string[] = [];
      const later = new Map([[containerId, "task/2"]]);
      const tasks = new Map([[containerId, create(TaskRecordSchema, { ...serving, phase: TaskPhase.GONE })]]);
      const changes = { tasks: { delete: (id: string) => void tasks.delete(id) } };
      const commit = async (change: (tables: object) => void): Promise<void> => change(changes);
      const context = {
        ...{ later, clock: new ManualClock() },
        book: new TaskBook({ tasks, commit } as unknown as State, testCloud()),
        departures: {
          expect: (task: string) => void done.push(`expects ${task}`),
          async stop(task: string) {
            if (refused !== undefined) {
              throw refused;
            }
            done.push(`stops ${task}`);
          },
        },
        stored: { remove: async () => void done.push("removes what is stored") },
      } as unknown as TaskContext;
      const removed = remove(context, containerId);
      await (refused === undefined ? removed : assert.rejects(removed, refused));
      const all = ["expects task/2", "stops task/2", "removes what is stored"];
      assert.deepEqual(done, refused === undefined ? all : all.slice(0, 1));
      assert.deepEqual([[...tasks.keys()], [...later.keys()]], [left, left]);
    });
  }
});

it("a task that is known to serve a later start than the state is left alone, be its agent silent", async () => {
  const { book } = bookOf({ ...serving, phase: TaskPhase.LINGERING });
  const isUsed: (() => Promise<boolean>)[] = [];
  const context = {
    ...{ book, later: new Map([[containerId, "task/1"]]), startSettings: {} },
    agents: { laterStartOf: () => Promise.resolve(undefined) },
    departures: {
      expect: (_task: string, _atMs: number, _gone: unknown, leaving: Leaving) =>
        void isUsed.push(leaving.isUsed ?? assert.fail()),
    },
  } as unknown as TaskContext;
  await release(context, containerId, false);
  assert.equal(await isUsed[0]?.(), true);
  context.later.clear();
  assert.equal(await isUsed[0]?.(), false);
});

for (const goes of [false, true]) {
  it(`a run that has ended by a restored state is not ended in its task, which was used again (--rm: ${goes})`, async () => {
    const { tasks, book } = bookOf({ ...serving, generation: 1n });
    const later = new Map<string, string>();
    const context = {
      ...{ book, later, clock: new ManualClock(), logger: { warn: () => {} } },
      agents: {
        targetOf: () => ({}),
        laterStartOf: async () => 2n,
        endRun: async () => undefined,
        letGo: () => assert.fail("its task would be stopped, as the agent does not leave"),
      },
    } as unknown as TaskContext;
    await release(context, containerId, goes);
    assert.deepEqual(
      [tasks.get(containerId)?.phase, later.get(containerId)],
      [TaskPhase.LINGERING, "task/1"],
    );
  });
}

/** Ends a run whose stop is answered when the test says so. */
function endRun(
  stopped: Promise<void>,
  signal: AbortSignal,
  lastLine: ReportedEnds["of"] = () => Promise.resolve({ exit: undefined, untold: "" }),
) {
  const clock = new ManualClock();
  const record = create(TaskRecordSchema, { containerId, task: "task/1", phase: TaskPhase.SERVING });
  const ends: FoundExit[] = [];
  let tell: TaskListener | undefined;
  let fail: FailureListener | undefined;
  let stops = 0;
  const context = {
    cloud: testCloud(),
    book: {
      of: () => record,
      noteEnd: async (_id: string, exit: FoundExit) => void ends.push(exit),
    },
    poller: {
      listen: (_task: string, listener: TaskListener, failed: FailureListener) => {
        tell = listener;
        fail = failed;
        return () => {
          tell = undefined;
        };
      },
    },
    departures: {
      expect: () => {},
      stop: () => {
        stops += 1;
        return stopped;
      },
    },
    clock,
    logger: { info: () => {} },
    abandoned: new AbortController().signal,
    agents: { forget: () => {}, targetOf: () => ({}) },
    ends: { of: lastLine },
    stored: { leaveToCloud: () => Promise.resolve() },
  } as unknown as TaskContext;
  let hasEnded = false;
  const ended = end(context, containerId, signal).then(() => {
    hasEnded = true;
  });
  return {
    ended,
    clock,
    tell: (view: Parameters<TaskListener>[0]) => tell?.(view),
    fail: () => fail?.(new Error("nothing is told")),
    ends,
    stops: () => stops,
    listens: () => tell !== undefined,
    hasEnded: async () => {
      await new Promise(setImmediate);
      return hasEnded;
    },
  };
}

describe("a run that is ended past its agent", () => {
  const forever = new Promise<void>(() => {});
  const isUnavailable = (error: unknown) => isErrorKind(error, "unavailable");

  it("ends when the cloud tells so", async () => {
    const run = endRun(Promise.resolve(), new AbortController().signal);
    run.tell(taskView({ stopping: true }));
    assert.equal(await run.hasEnded(), false);
    run.tell(taskView({ stopped: true }));
    await run.ended;
    assert.equal(run.listens(), false);
  });

  for (const [when, isLate, code] of [
    ["is late, and comes within half a minute", 20_000, 3],
    ["does not come", Number.POSITIVE_INFINITY, 255],
  ] as const) {
    it(`ends as its agent or the cloud tells where its agent's last line ${when}`, async () => {
      const exit = { code: 3, oomKilled: false, finishedAt: new Date(0) };
      const run = endRun(Promise.resolve(), new AbortController().signal, () =>
        run.clock.nowMs() - begunMs < isLate
          ? Promise.reject(new LinesLate("it may still come"))
          : Promise.resolve({ exit, untold: "" }),
      );
      const begunMs = run.clock.nowMs();
      run.tell(taskView({ stopped: true, reason: "the replica has failed" }));
      for (let seconds = 0; seconds <= 30 && !(await run.hasEnded()); seconds += 5) {
        await run.clock.advance(5_000);
      }
      assert.equal(await run.hasEnded(), true);
      assert.deepEqual(
        run.ends.map((end) => [end.code, end.error]),
        [[code, code === 255 ? "the replica has failed" : undefined]],
      );
    });
  }

  it("ends when the cloud has forgotten its task, and not while that may be too new to be known", async () => {
    const run = endRun(Promise.resolve(), new AbortController().signal);
    run.tell("missing");
    assert.equal(await run.hasEnded(), false);
    await run.clock.advance(9_000);
    run.tell("missing");
    assert.equal(await run.hasEnded(), false);
    await run.clock.advance(1_000);
    run.tell("missing");
    await run.ended;
  });

  for (const [how, silent] of [
    ["knows nothing of its task", taskView({ isUntold: true })],
    ["does not answer", undefined],
  ] as const) {
    it(`has ended a minute after the cloud has agreed where that ${how}`, async () => {
      const run = endRun(Promise.resolve(), new AbortController().signal);
      const isSilent = () => (silent === undefined ? run.fail() : run.tell(silent));
      await run.hasEnded();
      isSilent();
      await run.clock.advance(30_000);
      run.tell(taskView({ stopping: true }));
      await run.clock.advance(59_000);
      isSilent();
      assert.equal(await run.hasEnded(), false, "it was told of less than a minute ago");
      await run.clock.advance(1_000);
      isSilent();
      await run.ended;
      assert.equal(run.ends[0]?.code, 255);
      assert.match(run.ends[0]?.error ?? "", /Nimbus does not tell how its task stands: it was stopped/);
    });

    it(`has not ended as long as the cloud has not agreed and ${how}`, async () => {
      const giveUp = new AbortController();
      const run = endRun(forever, giveUp.signal);
      await run.clock.advance(120_000);
      void (silent === undefined ? run.fail() : run.tell(silent));
      assert.equal(await run.hasEnded(), false);
      giveUp.abort();
      await assert.rejects(run.ended, isUnavailable);
    });
  }

  it("is given up when nobody waits any more, also while the cloud does not answer", async () => {
    const giveUp = new AbortController();
    const run = endRun(forever, giveUp.signal);
    giveUp.abort();
    await assert.rejects(run.ended, isUnavailable);
    assert.equal(run.listens(), false);
  });

  it("is not begun where nobody waits", async () => {
    const run = endRun(forever, AbortSignal.abort());
    await assert.rejects(run.ended, isUnavailable);
    assert.equal(run.stops(), 0);
  });

  it("is not ended where the cloud refuses to", async () => {
    const run = endRun(Promise.reject(new Error("refused")), new AbortController().signal);
    await assert.rejects(run.ended, /refused/);
    assert.equal(run.listens(), false);
  });
});
