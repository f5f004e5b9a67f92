import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { ManualClock } from "../../../common/manual-clock.ts";
import { ContainerStatus } from "../../../gen/sockerless/backend/v1/container_pb.ts";
import {
  ContainerRecordSchema,
  Phase,
  TaskPhase,
  type TaskRecord,
  TaskRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../state/state.ts";
import type { TaskView } from "../contract/cloud-tasks.ts";
import { createSealer } from "../authority/seal.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { failedCall, taskView, testCloud } from "../testing/cloud.ts";
import { workloadSpec } from "../testing/workload-spec.ts";
import { find, list, silencesOfTasks } from "./list.ts";
import { TaskBook } from "./task-book.ts";
import type { TaskContext } from "./task-context.ts";
import { ReportedEnds } from "./reported-end.ts";

const readable = "a".repeat(64);
const unreadable = "b".repeat(64);

const { exitKey } = createSealer(Buffer.from("secret"));

/** The line of an agent whose container's run has ended with 3. */
function endLine(containerId: string, generation = 1n): string {
  const told = `exit generation=${generation} code=3 oom_killed=false platform_stop=false finished_at=2026-03-01T11:00:00Z`;
  return `${told} seal=${createHmac("sha256", exitKey(containerId, generation)).update(told).digest("hex")}`;
}

/** A listing where these tasks are on the books, and the cloud tells of these. */
function setUp(
  tasks: Readonly<Record<string, MessageInitShape<typeof TaskRecordSchema>>>,
  views: TaskView[],
  losses: readonly string[] = [],
) {
  const records = new Map<string, TaskRecord>();
  for (const [containerId, fields] of Object.entries(tasks)) {
    records.set(
      containerId,
      create(TaskRecordSchema, { generation: 1n, launchGeneration: 1n, ...fields, containerId }),
    );
  }
  const commit = (change: (tables: object) => void): Promise<void> => {
    change({
      tasks: {
        put: (record: TaskRecord) => void records.set(record.containerId, record),
        delete: (containerId: string) => void records.delete(containerId),
      },
    });
    return Promise.resolve();
  };
  const { logger, warnings } = capturedLogger();
  const cloud = testCloud({ listOwn: async () => [] });
  const clock = new ManualClock();
  const told = new Map<string, () => Promise<string[]>>();
  const book = new TaskBook({ tasks: records, commit, losses } as unknown as State, cloud);
  async function* agentLines(containerId: string) {
    yield* (await told.get(containerId)?.()) ?? [];
  }
  const { signal: abandoned } = new AbortController();
  const leftToCloud: string[] = [];
  const seenOff: string[] = [];
  const stops: string[] = [];
  const failures = new Map<string, Error>();
  const answering = new Set<string>();
  const context = {
    ...{ cloud, book, clock, logger, instance: "one" },
    poller: {
      describe: async () => ({
        views: views.filter(({ task }) => !failures.has(task)),
        failed: failures,
      }),
      look: async (task: string) => {
        const failure = failures.get(task);
        if (failure !== undefined) {
          throw failure;
        }
        return views.find((view) => view.task === task) ?? "missing";
      },
    },
    departures: {
      expect: (task: string) => void seenOff.push(task),
      expects: (task: string) => task === leaving,
      stop: async (task: string) => void stops.push(task),
    },
    silences: silencesOfTasks(),
    pool: { seen() {} },
    toldOfOthers: new Set(),
    later: new Map(),
    agents: {
      addressOf: ({ task }: TaskRecord) => ({ kind: "unix", path: task }),
      containerAddressOf: ({ address }: TaskRecord) => address,
      targetOf: () => ({}),
      forget: () => {},
      answers: async ({ task }: TaskRecord) => answering.has(task),
    },
    stored: { leaveToCloud: async (id: string) => void leftToCloud.push(id) },
    ends: new ReportedEnds({ log: { agentLines }, exitKey, clock, logger, abandoned }),
    abandoned,
  } as unknown as TaskContext;
  const runs = create(ContainerRecordSchema, { generation: 1n, state: { status: ContainerStatus.RUNNING } });
  const containers = new Map([...records.keys()].map((id) => [id, runs]));
  const listed = async () => {
    const found = await list(context, containers);
    return new Map(found.map((workload) => [workload.containerId, workload]));
  };
  return {
    listed,
    containers,
    told,
    book,
    warnings,
    clock,
    context,
    leftToCloud,
    seenOff,
    stops,
    failures,
    answering,
  };
}

/** A task that is about to end. */
const leaving = "task/leaving";
const serving = (task: string) => ({ task, phase: TaskPhase.SERVING });
const stopped = (containerId: string, task: string) =>
  taskView({ containerId, task, generation: 1n, stopped: true, stopping: true, reason: "it has stopped" });
const lost = () => Promise.reject(failedCall("unknown", "the answer was lost"));

describe("a listing of tasks", () => {
  it("has a container run whose recorded task was started under another authority", async () => {
    const view = taskView({ containerId: readable, task: "task/1", generation: 1n, instance: "another" });
    const ended = { ...stopped(unreadable, "task/2"), exitCode: 0, instance: "another" };
    const tasks = { [readable]: serving("task/1"), [unreadable]: serving("task/2") };
    const { listed, seenOff, warnings } = setUp(tasks, [view, ended]);
    for (let times = 0; times < 2; times++) {
      assert.notEqual((await listed()).get(readable)?.agent, undefined);
    }
    assert.deepEqual(seenOff, []);
    assert.deepEqual(warnings(), [
      "a task was started under another authority (another): its agent is not reached until agent_ca is that one",
    ]);
  });

  it("has a task end that its container has done with, but where the state is damaged", async () => {
    const views = [taskView({ containerId: readable, task: "task/2", generation: 1n })];
    const whole = setUp({ [readable]: serving("task/1") }, views);
    await whole.listed();
    assert.deepEqual(whole.seenOff, ["task/2"]);
    const damaged = setUp({ [readable]: serving("task/1") }, views, ["db/000003.log is damaged"]);
    await damaged.listed();
    assert.deepEqual(damaged.seenOff, []);
    assert.match(damaged.warnings().join(), /a task runs that the state, which is damaged, does not know/);
  });

  it("leaves a task alone that was started later than the state knows, as after the restore of a backup", async () => {
    const views = [taskView({ containerId: readable, task: "task/2", generation: 2n })];
    for (const before of [serving("task/1"), { task: "task/1", phase: TaskPhase.GONE }]) {
      const { listed, seenOff, warnings } = setUp({ [readable]: before }, views);
      for (let times = 0; times < 2; times++) {
        await listed();
      }
      assert.deepEqual(seenOff, []);
      assert.deepEqual(warnings(), ["a task of a later start than the state knows runs; it is left alone"]);
    }
  });

  it("leaves the task of a container to its next start that the state knows to be created only, and tells of it if its agent answers", async () => {
    const { listed, book, containers, context } = setUp({}, [
      taskView({ containerId: readable, task: "task/1", generation: 2n, address: "192.0.2.1" }),
    ]);
    containers.set(readable, create(ContainerRecordSchema));
    assert.equal((await listed()).get(readable), undefined, "a start that it does not answer would end it");
    const { record } = workloadSpec({ generation: 3n });
    Object.assign(context.agents, { describe: async () => ({ record }) });
    const { generation, laterRuns, agent } = (await listed()).get(readable) ?? {};
    assert.deepEqual([generation, laterRuns, agent], [3n, true, undefined]);
    assert.equal(book.of(readable), undefined, "its start is beside it, if it has another number");
    assert.deepEqual([...context.later], [[readable, "task/1"]]);
  });

  it("tells of a later start that a task serves which lingers by the state", async () => {
    const lingering = { task: "task/1", phase: TaskPhase.LINGERING };
    const { listed, containers, context } = setUp({ [readable]: lingering }, [
      taskView({ containerId: readable, task: "task/1", generation: 1n, address: "192.0.2.1" }),
    ]);
    containers.set(readable, create(ContainerRecordSchema, { generation: 1n }));
    Object.assign(context.agents, { laterStartOf: async () => 2n });
    const { generation, laterRuns } = (await listed()).get(readable) ?? {};
    assert.deepEqual([generation, laterRuns], [2n, true]);
    assert.deepEqual([...context.later], [[readable, "task/1"]]);
  });

  it("leaves a task alone that has taken the place of its start's first one, of which alone a restored state knows", async () => {
    const next = taskView({ containerId: readable, task: "task/2", generation: 1n });
    const asked = { [readable]: { task: "task/1", phase: TaskPhase.UNSPECIFIED } };
    for (const ended of [[stopped(readable, "task/1")], []]) {
      const { listed, seenOff, context } = setUp(asked, [...ended, next]);
      await listed();
      assert.deepEqual([seenOff, [...context.later]], [[], [[readable, "task/2"]]]);
    }
    const first = taskView({ containerId: readable, task: "task/1", generation: 1n });
    const { listed, seenOff } = setUp(asked, [first, next]);
    await listed();
    assert.deepEqual(seenOff, ["task/2"], "the answer for it was lost, and the start goes on with the first");
  });

  it("leaves the task of a start whose request the state does not know to that start, as it may have been used again", async () => {
    const view = taskView({ containerId: readable, task: "task/1", generation: 1n, address: "192.0.2.1" });
    const { listed, book, containers, context } = setUp({}, [view]);
    const describe = () =>
      assert.fail("recorded as that of a later start, it would have a second one beside it");
    Object.assign(context.agents, { describe });
    containers.set(readable, create(ContainerRecordSchema, { generation: 1n, phase: Phase.STARTING }));
    assert.deepEqual([...(await listed()).keys()], []);
    assert.equal(book.of(readable), undefined);
    assert.deepEqual([...context.later], [[readable, "task/1"]]);
  });

  it("leaves the task of a later start alone if the state does not have the container run", async () => {
    const later = taskView({ containerId: readable, task: "task/2", generation: 2n, address: "192.0.2.1" });
    const { listed, book, containers, context } = setUp({ [readable]: serving("task/1") }, [later]);
    Object.assign(context.agents, { describe: async () => ({ record: undefined }) });
    containers.set(readable, create(ContainerRecordSchema, { generation: 1n }));
    assert.equal((await listed()).get(readable)?.agent, undefined);
    assert.deepEqual([...context.later], [[readable, "task/2"]]);
    assert.notEqual(book.of(readable)?.task, "task/2", "it would end with what is left of the last run");
  });

  for (const [what, ended] of [
    ["has ended", [stopped(readable, "task/1")]],
    ["is forgotten", []],
  ] as const) {
    it(`has the task of a later start in the place of one that ${what}, if its agent tells of that start`, async () => {
      const later = taskView({ containerId: readable, task: "task/2", generation: 2n, address: "192.0.2.1" });
      const { listed, book, context } = setUp({ [readable]: serving("task/1") }, [...ended, later]);
      const describe = async () => ({
        ...{ address: "192.0.2.1", pin: Uint8Array.of(2), images: [] },
        record: workloadSpec({ generation: 3n }).record,
      });
      Object.assign(context.agents, { describe });
      const found = (await listed()).get(readable);
      assert.deepEqual(found?.agent, { kind: "unix", path: "task/2" });
      assert.deepEqual([found?.generation, found?.address], [3n, "192.0.2.1"]);
      const { task, phase, launchGeneration } = book.of(readable) ?? {};
      assert.deepEqual([task, phase, launchGeneration], ["task/2", TaskPhase.SERVING, 2n]);
      assert.equal(context.later.size, 0);
    });
  }

  for (const [what, views] of [
    ["have stopped", [stopped(unreadable, "task/1"), stopped(readable, "task/2")]],
    ["are forgotten", []],
  ] as const) {
    it(`tells of all tasks that ${what} but of one whose end cannot be read, which is asked for again`, async () => {
      const { listed, told, warnings, leftToCloud } = setUp(
        { [unreadable]: serving("task/1"), [readable]: serving("task/2"), other: { phase: TaskPhase.GONE } },
        [...views],
      );
      told.set(unreadable, lost);
      const first = await listed();
      assert.deepEqual(first.get(unreadable)?.agent, { kind: "unix", path: "task/1" }, "it may still run");
      assert.equal(first.get(unreadable)?.exit, undefined);
      assert.equal(first.get(readable)?.agent, undefined);
      assert.ok(first.has("other"));
      assert.match(warnings().join(), /end of a container cannot be read yet.*the answer was lost/);
      told.set(unreadable, async () => [endLine(unreadable)]);
      assert.ok(!leftToCloud.includes(unreadable), "its agent may still be there");
      assert.equal((await listed()).get(unreadable)?.exit?.code, 3);
      assert.ok(leftToCloud.includes(unreadable), "nobody has taken its log");
    });
  }

  for (const [what, views] of [
    ["has given up", [stopped(readable, "task/1")]],
    ["has forgotten", []],
  ] as const) {
    it(`has a task run that the cloud ${what} for as long as its agent answers`, async () => {
      const { listed, context, told, answering } = setUp({ [readable]: serving("task/1") }, [...views]);
      answering.add("task/1");
      const running = { kind: "unix", path: "task/1" };
      assert.deepEqual((await listed()).get(readable)?.agent, running);
      assert.deepEqual((await find(context, readable))?.agent, running);
      answering.clear();
      told.set(readable, async () => [endLine(readable)]);
      assert.equal((await listed()).get(readable)?.exit?.code, 3);
    });
  }

  for (const [what, views] of [
    ["has stopped", [stopped(readable, "task/1")]],
    ["is forgotten", []],
  ] as const) {
    it(`leaves alone what became of a container whose task ${what} while its end was looked for`, async () => {
      const told = (meanwhile: (book: TaskBook) => Promise<unknown>) => {
        const parts = setUp({ [readable]: serving("task/1") }, [...views]);
        parts.told.set(readable, async () => {
          await meanwhile(parts.book);
          return [endLine(readable)];
        });
        return parts;
      };
      const removed = told((book) => book.forget(readable));
      assert.equal((await removed.listed()).has(readable), false);
      assert.equal(removed.book.of(readable), undefined, "no record comes back");

      const again = { task: "task/2", generation: 2n, phase: TaskPhase.SERVING };
      const started = told((book) => book.note(readable, again));
      assert.deepEqual((await started.listed()).get(readable)?.agent, { kind: "unix", path: "task/2" });
      const { phase, exitCode } = started.book.of(readable) ?? {};
      assert.deepEqual([phase, exitCode], [TaskPhase.SERVING, undefined]);

      const ended = told((book) => book.note(readable, { phase: TaskPhase.LINGERING, exitCode: 7 }));
      assert.equal((await ended.listed()).get(readable)?.exit?.code, 7);
    });
  }

  for (const [what, generation, code] of [
    ["the line of this run", 2n, 3],
    ["the line of the run before alone", 1n, 255],
  ] as const) {
    it(`takes no exit code of a reused task from the cloud, which may be the last run's: ${what}`, async () => {
      const reused = { ...serving("task/1"), generation: 2n, launchGeneration: 1n };
      const parts = setUp({ [readable]: reused }, [{ ...stopped(readable, "task/1"), exitCode: 0 }]);
      parts.told.set(readable, async () => [endLine(readable, generation)]);
      assert.equal((await parts.listed()).get(readable)?.exit?.code, code);
    });
  }

  for (const [what, view, code, error] of [
    ["has failed", {}, 255, "it has stopped; its exit code is not to be had from NimbusLog, because denied"],
    ["has told its code", { exitCode: 137 }, 137, ""],
    ["has succeeded", { exitCode: 0 }, 0, ""],
    ["is forgotten", undefined, 255, /^the container's agent was lost; its exit code is not to be had/],
  ] as const) {
    it(`has a task end that ${what} where the log is not to be had, within a bounded time`, async () => {
      const views = view === undefined ? [] : [{ ...stopped(readable, "task/1"), ...view }];
      const { listed, told, clock } = setUp({ [readable]: serving("task/1") }, views);
      told.set(readable, () => Promise.reject(failedCall("refused", "denied")));
      let found = await listed();
      for (let seconds = 0; found.get(readable)?.exit === undefined; seconds += 10) {
        assert.ok(seconds <= 60, "it is over after a minute");
        await clock.advance(10_000);
        found = await listed();
      }
      assert.equal(found.get(readable)?.exit?.code, code);
      assert.match(
        found.get(readable)?.exit?.error ?? "",
        typeof error === "string" ? new RegExp(`^${error}$`) : error,
      );
    });
  }

  it("tells of all tasks but those at which the cloud refuses a look: known ones run, others are asked again", async () => {
    const views = [{ ...stopped(readable, "task/1"), exitCode: 137 }];
    const parts = setUp({ [readable]: serving("task/1"), [unreadable]: serving("task/2") }, views);
    parts.failures.set("task/2", failedCall("refused", "denied"));
    parts.failures.set("task/3", failedCall("refused", "denied"));
    const found = await parts.listed();
    assert.equal(found.get(readable)?.exit?.code, 137);
    assert.deepEqual(found.get(unreadable)?.agent, { kind: "unix", path: "task/2" });
    assert.deepEqual([...found.values()].filter(({ unanswered }) => unanswered).length, 1);
    assert.equal(found.get("task/3")?.unanswered, true);
    assert.match(parts.warnings().join(), /cannot ask for the state of a task: denied/);
  });

  it("has no container of a task that is about to end, though the cloud still has it run", async () => {
    const { listed } = setUp({}, [
      taskView({ containerId: readable, task: leaving, generation: 1n, address: "192.0.2.1" }),
    ]);
    assert.equal((await listed()).size, 0);
  });

  it("leaves alone what became of a container that the state does not know while its agent was asked", async () => {
    const view = taskView({ containerId: readable, task: "task/1", generation: 1n, address: "192.0.2.1" });
    const { context, book } = setUp({ [readable]: serving("task/1") }, [view]);
    const describe = async () => {
      await book.forget(readable);
      return { record: undefined };
    };
    const agents = { ...context.agents, describe } as unknown as TaskContext["agents"];
    assert.deepEqual(await list({ ...context, agents }, new Map()), []);
    assert.equal(book.of(readable), undefined);
  });
});

describe("a look for one container whose agent is silent", () => {
  const running = (containerId: string, task: string, isUntold = false) =>
    taskView({ containerId, task, generation: 1n, status: "RUNNING", isUntold });

  it("tells its end although the cloud refuses to tell of another, and to list any", async () => {
    const parts = setUp({ [readable]: serving("task/1"), [unreadable]: serving("task/2") }, [
      { ...stopped(readable, "task/1"), exitCode: 137 },
    ]);
    parts.failures.set("task/2", failedCall("refused"));
    assert.equal((await find(parts.context, readable))?.exit?.code, 137);
    await assert.rejects(find(parts.context, unreadable), /refused/);
  });

  it("has one run on of which the cloud tells that it does", async () => {
    const parts = setUp({ [readable]: serving("task/1") }, [running(readable, "task/1")]);
    for (let minutes = 0; minutes < 60; minutes++) {
      assert.ok((await find(parts.context, readable))?.agent);
      await parts.clock.advance(60_000);
    }
    assert.deepEqual(parts.stops, []);
  });

  for (const [how, fail] of [
    ["knows nothing of it any more", false],
    ["refuses to tell of it", true],
  ] as const) {
    it(`has it stopped, and ended, once the cloud ${how} for ten minutes`, async () => {
      const parts = setUp({ [readable]: serving("task/1") }, [running(readable, "task/1", true)]);
      const refused = failedCall("refused");
      if (fail) {
        parts.failures.set("task/1", refused);
      }
      const asked = () =>
        find(parts.context, readable).catch((error: unknown) => {
          assert.equal(error, refused);
          return { agent: "not told", exit: undefined };
        });
      for (let minutes = 0; minutes < 10; minutes++) {
        assert.ok((await asked())?.agent, `it may live after ${minutes} minutes`);
        await parts.clock.advance(60_000);
      }
      const exit = (await asked())?.exit;
      assert.equal(exit?.code, 255);
      assert.equal(
        exit?.error,
        "the container's agent was lost, and Nimbus does not tell how its task stands: it was stopped",
      );
      assert.deepEqual([parts.stops, parts.seenOff], [["task/1"], ["task/1"]]);
    });
  }

  it("counts the cloud's silence anew where its agent has answered meanwhile, or the cloud was away", async () => {
    const parts = setUp({ [readable]: serving("task/1") }, [running(readable, "task/1", true)]);
    const away = failedCall("unknown");
    for (let round = 0; round < 4; round++) {
      parts.failures.delete("task/1");
      for (let minutes = 0; minutes < 5; minutes++) {
        assert.ok((await find(parts.context, readable))?.agent);
        await parts.clock.advance(60_000);
      }
      parts.failures.set("task/1", away);
      for (let minutes = 0; minutes < 5; minutes++) {
        await assert.rejects(find(parts.context, readable), away);
        await parts.clock.advance(60_000);
      }
    }
    assert.deepEqual(parts.stops, []);
  });
});
