import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";

import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logger.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { failedCall, taskView, testCloud } from "../testing/cloud.ts";
import { TaskPoller } from "./poller.ts";

describe("the poller", () => {
  let clock: ManualClock;
  let poller: TaskPoller;
  /** Asks for each task by a call of its own. */
  let pollerOfSingles: TaskPoller;
  let untilAnswered: PromiseWithResolvers<void>;
  let rounds: (readonly string[])[];
  let failing = false;
  let isRefusing = true;
  let warnings: () => string[];

  beforeEach(() => {
    clock = new ManualClock();
    rounds = [];
    failing = false;
    isRefusing = true;
    untilAnswered = Promise.withResolvers();
    const cloud = testCloud({
      describedAtOnce: 100,
      async describe(tasks) {
        if (failing) {
          throw new Error("the cloud is away");
        }
        rounds.push(tasks);
        return {
          views: tasks
            .filter((task) => !task.includes("lost"))
            .map((task) => taskView({ task, status: "RUNNING" })),
          missing: tasks.filter((task) => task.includes("lost")),
        };
      },
    });
    let logger: Logger;
    ({ logger, warnings } = capturedLogger());
    poller = new TaskPoller({ cloud, intervalMs: 1_000, clock, logger });
    const singly = testCloud({
      describedAtOnce: 1,
      async describe([task = ""]) {
        if (isRefusing && task.includes("refused")) {
          throw failedCall("refused", `nothing is told of ${task}`);
        }
        if (task.includes("hangs")) {
          await untilAnswered.promise;
        }
        return { views: [taskView({ task, status: "RUNNING" })], missing: [] };
      },
    });
    pollerOfSingles = new TaskPoller({ cloud: singly, intervalMs: 1_000, clock, logger });
  });
  afterEach(async () => {
    untilAnswered.resolve();
    await Promise.all([poller.close(), pollerOfSingles.close()]);
  });

  it("tells of others where the cloud refuses one call, or has not answered it", async () => {
    const told: string[] = [];
    const hung = pollerOfSingles.look("task/hangs").then(() => told.push("answered"));
    const looks = ["task/refused", "task/2"].map((task) =>
      pollerOfSingles.look(task).then(
        () => told.push("told"),
        () => told.push("refused"),
      ),
    );
    await clock.advance(150);
    await Promise.all(looks);
    assert.deepEqual(told, ["refused", "told"]);
    const heard: string[] = [];
    pollerOfSingles.listen("task/2", () => heard.push("round"));
    for (let round = 1; round <= 3; round++) {
      await clock.advance(1_000);
      assert.equal(heard.length, round);
    }
    untilAnswered.resolve();
    await hung;
    assert.deepEqual(told, ["refused", "told", "answered"]);
    const { views, failed } = await pollerOfSingles.describe(["task/1", "task/refused"]);
    assert.deepEqual([views.map(({ task }) => task), [...failed.keys()]], [["task/1"], ["task/refused"]]);
  });

  it("goes on with its rounds where the machine's clock is set back", async () => {
    let backMs = 0;
    const machine: Clock = {
      nowMs: () => clock.nowMs() - backMs,
      nowNs: () => clock.nowNs(),
      sleep: (ms, signal) => clock.sleep(ms, signal),
    };
    const { logger } = capturedLogger();
    const cloud = testCloud({
      describe: async (tasks) => ({ views: tasks.map((task) => taskView({ task })), missing: [] }),
    });
    const setBack = new TaskPoller({ cloud, intervalMs: 1_000, clock: machine, logger });
    let heard = 0;
    setBack.listen("task/1", () => heard++);
    await clock.advance(1_200);
    assert.equal(heard, 2);
    backMs = 3_600_000;
    await clock.advance(3_000);
    assert.ok(heard >= 4, `${heard} rounds`);
    backMs *= 2;
    const look = setBack.look("task/2");
    await clock.advance(1_000);
    assert.notEqual(await look, "missing");
    await setBack.close();
  });

  it("lets nobody wait for a look when it is closed", async () => {
    const look = assert.rejects(poller.look("task/1"), /shutting down/);
    await poller.close();
    await look;
  });

  it("makes one call for as many tasks as one tells of", async () => {
    for (let number = 0; number < 250; number++) {
      poller.listen(`task/${number}`, () => {});
    }
    await clock.advance(150);
    assert.deepEqual(
      rounds.map(({ length }) => length),
      [100, 100, 50],
    );
    await clock.advance(999);
    assert.equal(rounds.length, 3);
    await clock.advance(1);
    assert.equal(rounds.length, 6);
  });

  it("asks sooner where somebody says so, but no more than twice in its interval", async () => {
    poller.listen("task/1", () => {});
    await clock.advance(150);
    poller.hasten();
    await clock.advance(499);
    assert.equal(rounds.length, 1);
    await clock.advance(1);
    assert.equal(rounds.length, 2);
    await clock.advance(999);
    assert.equal(rounds.length, 2);
  });

  it("makes no call where nobody listens", async () => {
    const end = poller.listen("task/1", () => {});
    await clock.advance(150);
    end();
    await clock.advance(60_000);
    assert.equal(rounds.length, 1);
    poller.listen("task/2", () => {});
    await clock.advance(150);
    assert.deepEqual(rounds.at(-1), ["task/2"]);
  });

  it("tells of a task that the cloud does not know", async () => {
    const heard: string[] = [];
    poller.listen("task/lost", (view) => heard.push(view === "missing" ? view : view.status));
    poller.listen("task/1", (view) => heard.push(view === "missing" ? view : view.status));
    await clock.advance(150);
    assert.deepEqual(new Set(heard), new Set(["RUNNING", "missing"]));
  });

  it("tells of a look that was refused those alone who listen to its task", async () => {
    const heard: string[] = [];
    for (const task of ["task/refused", "task/1"]) {
      pollerOfSingles.listen(
        task,
        (view) => heard.push(view === "missing" ? view : view.status),
        (error) => heard.push(String(error)),
      );
    }
    await clock.advance(150);
    assert.deepEqual(
      new Set(heard),
      new Set(["RUNNING", "SockerlessError: nothing is told of task/refused"]),
    );
  });

  it("warns once of looks that fail, until one succeeds", async () => {
    pollerOfSingles.listen("task/refused", () => {});
    const rejected = "cannot ask for the state of tasks: nothing is told of task/refused";
    await clock.advance(150);
    await clock.advance(1_000);
    await clock.advance(1_000);
    assert.deepEqual(warnings(), [rejected]);
    isRefusing = false;
    await clock.advance(1_000);
    isRefusing = true;
    await clock.advance(1_000);
    assert.deepEqual(warnings(), [rejected, rejected]);

    failing = true;
    const away = "cannot ask for the state of tasks: the cloud is away";
    poller.listen("task/1", () => {});
    poller.listen("task/2", () => {});
    await clock.advance(1_000);
    await clock.advance(1_000);
    failing = false;
    await clock.advance(1_000);
    assert.deepEqual(warnings(), [rejected, rejected, away]);
  });

  it("goes on when a round fails, which is told to those who listen for it", async () => {
    failing = true;
    const failures: unknown[] = [];
    poller.listen(
      "task/1",
      () => {},
      (error) => failures.push(error),
    );
    poller.listen("task/2", () => {});
    await clock.advance(150);
    assert.match(String(failures), /^Error: the cloud is away$/);
    failing = false;
    await clock.advance(1_000);
    assert.equal(rounds.length, 1);
    assert.equal(failures.length, 1);
  });

  it("has no more calls under way than it may, gets to all tasks, and to none that nobody awaits", async () => {
    const asked: string[] = [];
    let answering = Promise.withResolvers<void>();
    const cloud = testCloud({
      describedAtOnce: 1,
      async describe([task = ""]) {
        asked.push(task);
        await answering.promise;
        return { views: [taskView({ task })], missing: [] };
      },
    });
    const { logger } = capturedLogger();
    const patient = new TaskPoller({ cloud, intervalMs: 1_000, mostCalls: 4, clock, logger });
    const tasks = Array.from({ length: 100 }, (_, number) => `task/${number}`);
    const unlisten = patient.listen("task/left", () => {});
    const looks = tasks.map((task) => patient.look(task));
    await clock.advance(10_000);
    assert.deepEqual(asked, ["task/left", ...tasks.slice(0, 3)]);
    unlisten();
    const left = patient.listen("task/left too", () => {});
    await clock.advance(10_000);
    left();
    for (let before = 0; before < asked.length; ) {
      assert.ok(asked.length - before <= 4);
      before = asked.length;
      answering.resolve();
      answering = Promise.withResolvers();
      await clock.advance(1);
    }
    await Promise.all(looks);
    assert.deepEqual(asked, ["task/left", ...tasks]);
    await patient.close();
  });

  it("tells of a failed call those who listen to its tasks, and no others", async () => {
    const heard = new Map<string, string[]>();
    const cloud = testCloud({
      describedAtOnce: 100,
      async describe(tasks) {
        if (tasks.includes("task/100")) {
          throw new Error("the cloud is away");
        }
        return { views: tasks.map((task) => taskView({ task })), missing: [] };
      },
    });
    const { logger: quiet } = capturedLogger();
    const other = new TaskPoller({ cloud, intervalMs: 1_000, clock, logger: quiet });
    const tasks = Array.from({ length: 150 }, (_, number) => `task/${number}`);
    for (const task of tasks) {
      const hear = (what: string) => heard.set(task, [...(heard.get(task) ?? []), what]);
      other.listen(
        task,
        () => hear("told"),
        () => hear("failed"),
      );
    }
    await clock.advance(150);
    await other.close();
    assert.deepEqual(
      tasks.map((task) => heard.get(task)),
      tasks.map((_, number) => [number < 100 ? "told" : "failed"]),
    );
  });
});
