import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { TaskRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../state/state.ts";
import { testCloud } from "../testing/cloud.ts";
import { TaskBook } from "./task-book.ts";

describe("the record of a container's task", () => {
  it("has the log streams of its last tasks, however many there were", async () => {
    const tasks = new Map<string, TaskRecord>();
    const put = (record: TaskRecord): void => void tasks.set(record.containerId, record);
    const commit = async (change: (tables: object) => void): Promise<void> => change({ tasks: { put } });
    const book = new TaskBook({ tasks, commit } as unknown as State, testCloud());
    for (let each = 1; each <= 300; each++) {
      await book.noteTask("container", `task/${each}`);
      await book.noteTask("container", `task/${each}`);
    }
    const { logStreams = [] } = book.of("container") ?? {};
    assert.equal(logStreams.length, 256);
    assert.deepEqual([logStreams.at(0), logStreams.at(-1)], ["stream of task/45", "stream of task/300"]);
  });

  it("has each stream once, where the process that began its task has recorded it", async () => {
    const tasks = new Map<string, TaskRecord>();
    const put = (record: TaskRecord): void => void tasks.set(record.containerId, record);
    const commit = async (change: (tables: object) => void): Promise<void> => change({ tasks: { put } });
    for (const place of ["", "former:", "configured:"]) {
      const cloud = testCloud({ logStreamOf: (task) => `${place}${task}` });
      await new TaskBook({ tasks, commit } as unknown as State, cloud).noteTask("container", "1");
    }
    assert.deepEqual(tasks.get("container")?.logStreams, ["1"]);
  });
});
