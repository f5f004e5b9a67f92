import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";

import { ManualClock } from "../../../common/manual-clock.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import type { TaskView } from "../contract/cloud-tasks.ts";
import { failedCall, taskView, testCloud } from "../testing/cloud.ts";
import { Departures } from "./departures.ts";
import { TaskPoller } from "./poller.ts";

const task = "task/1";

describe("a task that lingers", () => {
  let clock: ManualClock;
  let view: TaskView | undefined;
  let departures: Departures;
  let stops: number;
  let isAway: boolean;
  let isRefusing: boolean;
  let close: () => Promise<void>;
  let gone: boolean;

  beforeEach(() => {
    clock = new ManualClock();
    view = taskView({ task, status: "RUNNING" });
    gone = false;
    stops = 0;
    isAway = false;
    isRefusing = false;
    const cloud = testCloud({
      async describe() {
        if (isAway) {
          throw new Error("the cloud is away");
        }
        return view === undefined ? { views: [], missing: [task] } : { views: [view], missing: [] };
      },
      async stop() {
        stops++;
        if (isRefusing) {
          throw failedCall("refused");
        }
      },
    });
    const { logger } = capturedLogger();
    const options = { cloud, clock, logger };
    const poller = new TaskPoller({ ...options, intervalMs: 1_000 });
    const patientPoller = new TaskPoller({ ...options, intervalMs: 5_000 });
    departures = new Departures({ ...options, poller, patientPoller });
    close = async () => {
      await Promise.all([departures.close(), poller.close(), patientPoller.close()]);
    };
    departures.expect(task, clock.nowMs() + 60_000, () => {
      gone = true;
      return Promise.resolve();
    });
  });
  afterEach(() => close());

  const pass = async (seconds: number): Promise<void> => {
    for (let second = 0; second < seconds; second++) {
      await clock.advance(1_000);
    }
  };

  it("is let go at its deadline, where that is to be told to it, and not before", async () => {
    let times = 0;
    const letGo = async (): Promise<void> => void times++;
    departures.expect(task, clock.nowMs() + 5_000, () => Promise.resolve(), { letGo });
    await pass(4);
    assert.equal(times, 0);
    await pass(2);
    assert.equal(times, 1);
    view = undefined;
    await pass(2);
    assert.equal(times, 1);
    assert.equal(stops, 0);
  });

  it("is gone as soon as somebody in the cloud has it stopped", async () => {
    await pass(10);
    assert.ok(!gone);
    view = taskView({ task, status: "RUNNING", stopping: true });
    await pass(6);
    assert.ok(gone);
    assert.equal(stops, 0);
  });

  it("is there though the cloud does not know it for a while, until its time has come", async () => {
    view = undefined;
    await pass(59);
    assert.ok(!gone);
    await pass(3);
    assert.ok(gone);
  });

  it("is stopped once where the cloud takes that, unless it is told to run long after", async () => {
    await pass(125);
    assert.equal(stops, 1);
    await pass(300);
    isAway = true;
    await pass(600);
    assert.equal(stops, 1);
    isAway = false;
    await pass(2);
    assert.equal(stops, 2);
    view = taskView({ task, status: "RUNNING", stopping: true });
    await pass(1_000);
    assert.equal(stops, 2);
    view = undefined;
    await pass(2);
    assert.ok(gone);
  });

  it("is not stopped where it has not left because it is used all the same", async () => {
    let times = 0;
    const isUsed = async (): Promise<boolean> => times++ >= 0;
    departures.expect(task, clock.nowMs(), () => Promise.resolve(), { isUsed });
    await pass(58);
    assert.equal(times, 0, "it may be leaving");
    await pass(600);
    assert.deepEqual([times, stops], [1, 0]);
  });

  it("is stopped again a moment after the cloud has refused that", async () => {
    isRefusing = true;
    await pass(125);
    assert.equal(stops, 1);
    isRefusing = false;
    await pass(70);
    assert.equal(stops, 2);
  });

  it("is not looked at any more when it is used again", async () => {
    departures.cancel(task);
    view = taskView({ task, status: "STOPPED", stopping: true, stopped: true });
    await pass(120);
    assert.ok(!gone);
  });
});
