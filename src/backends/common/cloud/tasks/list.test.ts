import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { ManualClock } from "../../../../common/manual-clock.ts";
import {
  TaskPhase,
  type TaskRecord,
  TaskRecordSchema,
} from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../state/state.ts";
import type { TaskView } from "../cloud-tasks.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { failedCall, taskView, testCloud } from "../testing/cloud.ts";
import { list } from "./list.ts";
import { TaskBook } from "./task-book.ts";
import type { TaskContext } from "./task-context.ts";

const readable = "a".repeat(64);
const unreadable = "b".repeat(64);

/** A listing where these tasks are on the books, and the cloud tells of these. */
function setUp(
  tasks: Readonly<Record<string, MessageInitShape<typeof TaskRecordSchema>>>,
  views: TaskView[],
) {
  const records = new Map<string, TaskRecord>();
  for (const [containerId, fields] of Object.entries(tasks)) {
    records.set(containerId, create(TaskRecordSchema, { generation: 1n, ...fields, containerId }));
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
  const told = new Map<string, () => Promise<never[]>>();
  const book = new TaskBook({ tasks: records, commit } as unknown as State, cloud);
  const context = {
    ...{ cloud, book, clock, logger, instance: "one" },
    poller: { describe: async () => views },
    agents: { addressOf: ({ task }: TaskRecord) => ({ kind: "unix", path: task }) },
    exitKey: () => new Uint8Array(),
    log: {
      async *agentLines(containerId: string) {
        yield* (await told.get(containerId)?.()) ?? [];
      },
    },
    abandoned: new AbortController().signal,
  } as unknown as TaskContext;
  const listed = async () => {
    const found = await list(context, records);
    return new Map(found.map((workload) => [workload.containerId, workload]));
  };
  return { listed, told, book, warnings, clock };
}

const serving = (task: string) => ({ task, phase: TaskPhase.SERVING });
const stopped = (containerId: string, task: string) =>
  taskView({ containerId, task, generation: 1n, stopped: true, stopping: true, reason: "it has stopped" });
const lost = () => Promise.reject(failedCall("unknown", "the answer was lost"));

describe("a listing of tasks", () => {
  for (const [what, views] of [
    ["have stopped", [stopped(unreadable, "task/1"), stopped(readable, "task/2")]],
    ["are forgotten", []],
  ] as const) {
    it(`tells of all tasks that ${what} but of one whose end cannot be read, which is asked for again`, async () => {
      const { listed, told, warnings } = setUp(
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
      told.clear();
      assert.equal((await listed()).get(unreadable)?.agent, undefined);
    });
  }
});
