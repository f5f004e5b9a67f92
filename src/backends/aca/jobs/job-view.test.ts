import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { TaskView } from "../../cloud/contract/cloud-tasks.ts";
import { viewOf } from "./job-view.ts";

const name = { job: "sk-cccccccccccc", execution: "sk-cccccccccccc-1" };
const facts = {
  instance: "sockerless/1",
  containerId: "c".repeat(64),
  generation: 3n,
  replicaTimeoutMs: 3_600_000,
};
const startTime = new Date("2026-11-21T10:00:00Z");
const after = (ms: number): Date => new Date(startTime.getTime() + ms);

function view(status: string, ranMs?: number, stopReason?: string, lastStatus = ""): TaskView {
  const endTime = ranMs === undefined ? {} : { endTime: after(ranMs) };
  return viewOf(name, { status, startTime, ...endTime }, facts, { ...knowledge, lastStatus, stopReason });
}

const knowledge = { lastStatus: "", stopReason: undefined, containerTimeMs: 3_600_000 };

describe("viewOf an execution", () => {
  it("tells whose it is, and that its agent calls", () => {
    const { task, instance, containerId, generation, address } = view("Running");
    assert.deepEqual(
      [task, instance, containerId, generation, address],
      ["sk-cccccccccccc/sk-cccccccccccc-1", "sockerless/1", "c".repeat(64), 3n, "sk-cccccccccccc-1"],
    );
  });

  it("tells of one that has ended, with the exit code as far as Azure knows it", () => {
    for (const [status, stopped, exitCode] of [
      ["Processing", false, undefined],
      ["Running", false, undefined],
      ["Succeeded", true, 0],
      ["Failed", true, undefined],
      ["Degraded", true, undefined],
      ["Stopped", true, 137],
    ] as const) {
      const seen = view(status, stopped ? 1_000 : undefined);
      assert.deepEqual([seen.stopped, seen.exitCode], [stopped, exitCode], status);
    }
  });

  it("keeps the last status where Azure does not know it", () => {
    assert.equal(view("Unknown", undefined, undefined, "Running").status, "Running");
    assert.equal(view("Unknown", 5, undefined, "Succeeded").stopped, true);
    assert.equal(view("Unknown").status, "Processing");
    assert.deepEqual(
      [view("Unknown"), view("Running"), view("Unknown", 5, undefined, "Failed")].map(
        ({ isUntold }) => isUntold,
      ),
      [true, false, false],
    );
  });

  it("tells of a replica's timeout as such", () => {
    const { interruption, reason } = view("Failed", 3_600_000);
    assert.match(
      interruption,
      /ended by Container Apps: a job's replica may run for 3600 s \(aca.replica_timeout\)/,
    );
    assert.equal(reason, interruption);
    assert.equal(view("Failed", 3_000).interruption, "");
  });

  it("tells until when a container that claims it has its whole time", () => {
    const prepared = { name: "e".repeat(64), shape: "s" };
    const waiting = { ...facts, containerId: "", generation: 0n, prepared, replicaTimeoutMs: 5_400_000 };
    const seen = viewOf(name, { status: "Running", startTime }, waiting, knowledge);
    assert.deepEqual(seen.prepared, { ...prepared, claimableUntil: after(1_800_000) });
    assert.equal(view("Running").prepared, undefined);
  });

  it("tells stops by others from its own", () => {
    assert.match(view("Stopped", 5).interruption, /stopped in Azure/);
    const own = view("Stopped", 5, "the container has ended");
    assert.equal(own.interruption, "");
    assert.match(own.reason, /was stopped: the container has ended/);
  });
});
