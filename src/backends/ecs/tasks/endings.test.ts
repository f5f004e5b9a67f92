import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ManualClock } from "../../../common/manual-clock.ts";
import { TaskPhase, type TaskRecord, TaskRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../common/state/state.ts";
import { release } from "./endings.ts";
import { lingersUntilMs } from "./lingering.ts";
import { TaskBook } from "./task-book.ts";
import type { TaskContext } from "./task-context.ts";

const containerId = "c".repeat(64);
const lingerMs = 60_000;
const drainMs = 30_000;

/** Releases a run whose exit its agent dates so much off this clock; its log takes long to come. */
async function releaseRun(
  aheadMs: number,
): Promise<{ readonly stayMs: number; readonly expectedMs: number }> {
  const clock = new ManualClock();
  const tasks = new Map<string, TaskRecord>();
  const put = (record: TaskRecord): void => void tasks.set(record.containerId, record);
  put(create(TaskRecordSchema, { containerId, task: "arn:task", phase: TaskPhase.SERVING }));
  const commit = (change: (tables: object) => void): Promise<void> => {
    change({ tasks: { put } });
    return Promise.resolve();
  };
  const exitMs = clock.nowMs();
  let expectedMs = 0;
  const context = {
    book: new TaskBook({ tasks, commit } as unknown as State),
    agents: {
      targetOf: () => ({}),
      endRun: () => Promise.resolve({ code: 0, oomKilled: false, finishedAt: new Date(exitMs + aheadMs) }),
    },
    stored: { drain: () => clock.advance(drainMs) },
    departures: {
      expect: (_arn: string, atMs: number) => {
        expectedMs = atMs - exitMs;
      },
    },
    start: { lingerMs },
    clock,
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
