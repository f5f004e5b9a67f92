import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ManualClock } from "../../../common/manual-clock.ts";
import { taskView, testCloud } from "../testing/cloud.ts";
import type { TaskListener } from "./poller.ts";
import { reportRemaining } from "./task-phases.ts";

describe("the rest of a task's phases", () => {
  const setUp = (tellsPhases: boolean) => {
    const clock = new ManualClock();
    const listeners = new Set<TaskListener>();
    const told: string[] = [];
    const poller = {
      listen(_task: string, listener: TaskListener) {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
    };
    const parts = { poller, clock, cloud: testCloud({ tellsPhases }) };
    const rest = reportRemaining(
      "task/1",
      ({ name }) => told.push(name),
      parts,
      new AbortController().signal,
    );
    return { clock, listeners, told, rest };
  };

  it("is listened for until the cloud has told when its containers had started", async () => {
    const { listeners, told, rest } = setUp(true);
    for (const listener of listeners) {
      listener(taskView({ times: { created: new Date(0), started: new Date(1_000) } }));
    }
    await rest;
    assert.deepEqual([told, listeners.size], [["provisioning"], 0]);
  });

  it("is not waited for without end", async () => {
    const { clock, listeners, rest } = setUp(true);
    await clock.advance(20_000);
    await rest;
    assert.equal(listeners.size, 0);
  });

  it("costs no look where the cloud never tells it", async () => {
    const { listeners, rest } = setUp(false);
    assert.equal(listeners.size, 0);
    await rest;
  });
});
