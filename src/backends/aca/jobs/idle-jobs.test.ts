import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { ManualClock } from "../../../common/manual-clock.ts";
import { type TaskRecord, TaskPhase, TaskRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { capturedLogger } from "../../cloud/testing/captured-logger.ts";
import { failedCall } from "../../cloud/testing/cloud.ts";
import { IdleJobs } from "./idle-jobs.ts";

/** Jobs of containers that nobody has, but for those that are on the books. */
function setUp(names: readonly string[], books: Readonly<Record<string, TaskRecord>> = {}) {
  const there = new Set(names);
  const running = new Set<string>();
  const busy = new Set<string>();
  const begun = new Set<string>();
  const removals: string[] = [];
  const counted = { lists: 0 };
  const facts = { instance: "sockerless/1", generation: 1n, replicaTimeoutMs: 1 };
  const clock = new ManualClock();
  const log = capturedLogger();
  const idle = new IdleJobs({
    jobs: () => ({
      list: async () => {
        counted.lists += 1;
        await setImmediate();
        return [...there].map((name) => ({ ...facts, name, containerId: name }));
      },
      isRunning: async (name) => running.has(name),
      isBeingStarted: (name) => begun.has(name),
      async remove(name) {
        removals.push(name);
        if (busy.has(name)) {
          throw failedCall("refused", "Jobs_Delete: it is busy (Conflict)");
        }
        await setImmediate();
        there.delete(name);
      },
    }),
    recordOf: (containerId) => books[containerId],
    clock,
    logger: log.logger,
  });
  return { there, running, busy, begun, removals, counted, clock, log, idle };
}

const needed = (job: string): TaskRecord =>
  create(TaskRecordSchema, { task: `${job}/execution`, phase: TaskPhase.SERVING });

describe("jobs that nobody needs", () => {
  it("are deleted by a sweep, but for those that run or are on the books", async () => {
    const { idle, there, running } = setUp(["a", "b", "c"], { b: needed("b") });
    running.add("c");
    await idle.sweep();
    assert.deepEqual([...there], ["b", "c"]);
  });

  it("are kept by a sweep while they are being started", async () => {
    const { idle, there, begun } = setUp(["a"]);
    begun.add("a");
    await idle.sweep();
    assert.deepEqual([...there], ["a"]);
    begun.delete("a");
    await idle.sweep();
    assert.deepEqual([...there], []);
  });

  it("are deleted although another cannot be, which is told", async () => {
    const { idle, there, busy, log } = setUp(["a", "b"]);
    busy.add("a");
    await idle.sweep();
    assert.deepEqual([...there], ["a"]);
    assert.match(log.warnings().join(), /cannot be deleted yet: .*Conflict/);
  });

  it("are deleted once, whoever asks", async () => {
    const { idle, removals } = setUp(["a"]);
    await Promise.all([idle.sweep(), idle.sweep()]);
    assert.deepEqual(removals, ["a"]);
  });

  it("are looked for once by all who ask meanwhile, and again by who asks later", async () => {
    const { idle, there, counted } = setUp(["a"]);
    await Promise.all(Array.from({ length: 100 }, () => idle.sweep()));
    assert.deepEqual([counted.lists, ...there], [1]);
    await idle.sweep();
    assert.equal(counted.lists, 2);
  });

  it("are deleted after a start that has failed, once nothing of them runs", async () => {
    const { idle, there, running, clock } = setUp(["a"]);
    running.add("a");
    idle.failed("a", "a");
    await clock.advance(60_000);
    assert.deepEqual([...there], ["a"]);
    running.clear();
    await clock.advance(60_000);
    await idle.close();
    assert.deepEqual([...there], []);
  });
});
