import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import type { V1ContainerState, V1Pod } from "@kubernetes/client-node";

import { ManualClock } from "../../../common/manual-clock.ts";
import { type TaskRecord, TaskRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { capturedLogger } from "../../cloud/testing/captured-logger.ts";
import { EndedPods } from "./ended-pods.ts";

const name = "sockerless-cccccccccccc-1";
const task = `${name}/uid`;
const unpulled: V1ContainerState = { waiting: { reason: "ImagePullBackOff" } };
const creating: V1ContainerState = { waiting: { reason: "ContainerCreating" } };
const running: V1ContainerState = { running: { startedAt: new Date(5_000) } };

function podWhere(states: Readonly<Record<string, V1ContainerState>>, phase = "Pending"): V1Pod {
  const containerStatuses = Object.entries(states).map(([each, state]) => ({
    ...{ name: each, state, image: "", imageID: "", ready: false, restartCount: 0 },
  }));
  return { metadata: { name, uid: "uid" }, status: { phase, containerStatuses } };
}

describe("a pod that cannot begin", () => {
  const { logger } = capturedLogger();
  let clock: ManualClock;
  let record: TaskRecord | undefined;
  let failures: number;
  let removed: string[];
  let ended: EndedPods;

  beforeEach(() => {
    clock = new ManualClock();
    record = undefined;
    failures = 0;
    removed = [];
    ended = new EndedPods({
      remove(each) {
        removed.push(each);
        return failures-- > 0 ? Promise.reject(new Error("503")) : Promise.resolve();
      },
      recordOf: () => record,
      ...{ clock, logger },
    });
  });
  afterEach(async () => {
    await ended.close();
  });

  it("is deleted, until that is done", async () => {
    failures = 2;
    ended.hear(podWhere({ main: unpulled }));
    await clock.advance(300_000);
    assert.deepEqual(removed, [task, task, task]);
  });

  it("is left while a start has it", async () => {
    record = create(TaskRecordSchema, { request: JSON.stringify({ metadata: { name } }) });
    ended.hear(podWhere({ main: unpulled }));
    await clock.advance(60_000);
    record = create(TaskRecordSchema, { task });
    await clock.advance(60_000);
    assert.deepEqual(removed, []);
    record = create(TaskRecordSchema, { task: `${name}-x0a1b2c/other` });
    await clock.advance(60_000);
    assert.deepEqual(removed, [task]);
  });

  it("is left if it begins after all, and deleted once it ends", async () => {
    ended.hear(podWhere({ main: unpulled }));
    ended.hear(podWhere({ main: creating }));
    ended.hear(podWhere({ main: running }, "Running"));
    await clock.advance(300_000);
    assert.deepEqual(removed, []);
    ended.hear(podWhere({ main: { terminated: { exitCode: 0 } } }, "Succeeded"));
    await clock.advance(60_000);
    assert.deepEqual(removed, [task]);
  });

  it("is none whose container runs beside one that fails", async () => {
    ended.hear(podWhere({ sidecar: unpulled, main: running }));
    await clock.advance(300_000);
    assert.deepEqual(removed, []);
  });
});
