import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { SimulatedClock } from "../../../common/clock.ts";
import type { Context } from "../../context.ts";
import type { NetworkInterface } from "../../cloud.ts";
import { type RunServices, TaskRun } from "./task-run.ts";
import { TaskState } from "./task-state.ts";

describe("the way of a task", () => {
  it("ends where the simulator itself fails, and the failure is told", async () => {
    const delays = { provisioning: 0, pending: 0, pull: 0, activating: 0, stopping: 0 };
    const context = {
      clock: new SimulatedClock(),
      delays,
      region: "r",
      accountId: "1",
    } as unknown as Context;
    const network = { createInterface: () => ({}) as NetworkInterface, deleteInterface: () => {} };
    const failures = { take: () => undefined };
    const onTask = (): never => {
      throw new Error("no room");
    };
    const services = { context, cloud: { network }, failures, onTask } as unknown as RunServices;
    const task = new TaskState(context, {
      id: "0".repeat(32),
      clusterName: "c",
      definition: { containerDefinitions: [{ name: "main" }] },
      request: {},
      placement: { subnetIds: ["subnet-1"], groupIds: [] },
      capacityProviderName: undefined,
    } as unknown as ConstructorParameters<typeof TaskState>[1]);
    const run = new TaskRun(services, task);
    await assert.rejects(run.finished, /no room/);
    assert.equal(task.lastStatus, "STOPPED");
    assert.match(task.describe().stoppedReason ?? "", /the simulator failed: Error: no room/);
  });
});
