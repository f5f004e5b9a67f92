import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerStateSchema, ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import { settleRestarting } from "../start/pending-restart.ts";
import { noteSignal } from "./send-signal.ts";

const id = "c".repeat(64);

/** A container in a state that takes no changes, and what its run was told. */
function scene(status: ContainerStatus) {
  const record = create(ContainerRecordSchema, { id, state: create(ContainerStateSchema, { status }) });
  const told: string[] = [];
  const context = {
    state: {
      containers: new Map([[id, record]]),
      commit: () => Promise.reject(new Error("the disk is full")),
    },
  } as unknown as EngineContext;
  const live = {
    id,
    lock: { run: <T>(work: () => Promise<T>) => work() },
    run: { endByUser: () => told.push("ended by the user"), endWait: () => told.push("waits no more") },
    waiters: { notifyExit: (recorded: Promise<void>) => recorded },
  } as unknown as LiveContainer;
  return { context, live, told };
}

describe("a stop that cannot be recorded", () => {
  it("leaves a container that runs to its restart policy", async () => {
    const { context, live, told } = scene(ContainerStatus.RUNNING);
    await assert.rejects(noteSignal(context, live, 15, true), /the disk is full/);
    assert.deepEqual(told, []);
  });

  it("leaves one that waits for its restart waiting", async () => {
    const { context, live, told } = scene(ContainerStatus.RESTARTING);
    await assert.rejects(settleRestarting(context, live), /the disk is full/);
    assert.deepEqual(told, []);
  });
});
