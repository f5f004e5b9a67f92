import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../state/state.ts";
import { testCloud } from "../testing/cloud.ts";
import { TaskBook } from "./task-book.ts";

/** A book whose commits are noted. */
function newBook() {
  const tasks = new Map<string, TaskRecord>();
  const commits: string[] = [];
  const put = (record: TaskRecord): void => {
    commits.push(`${record.task} ${record.address}`);
    tasks.set(record.containerId, record);
  };
  const commit = async (change: (tables: object) => void): Promise<void> => change({ tasks: { put } });
  return { commits, book: new TaskBook({ tasks, commit } as unknown as State, testCloud()) };
}

describe("the record of a container's task", () => {
  it("has the log streams of its last tasks, however many there were", async () => {
    const { book } = newBook();
    for (let each = 1; each <= 300; each++) {
      await book.noteTask("container", `task/${each}`);
      await book.noteTask("container", `task/${each}`);
    }
    const { logStreams = [] } = book.of("container") ?? {};
    assert.equal(logStreams.length, 256);
    assert.deepEqual([logStreams.at(0), logStreams.at(-1)], ["stream of task/45", "stream of task/300"]);
  });

  it("names a task together with its agent, as a crash between the two would leave it with the last one's", async () => {
    const { book, commits } = newBook();
    await book.noteTask("container", "task/1", { address: "192.0.2.1", phase: TaskPhase.SERVING });
    await book.noteTask("container", "task/2", { address: "192.0.2.2" });
    assert.deepEqual(commits, ["task/1 192.0.2.1", "task/2 192.0.2.2"]);
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
