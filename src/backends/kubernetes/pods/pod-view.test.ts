import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { V1ContainerState, V1Pod, V1PodStatus } from "@kubernetes/client-node";

import { isEndReported, viewOf } from "./pod-view.ts";

const running: V1ContainerState = { running: { startedAt: new Date(5_000) } };

function podWith(status: V1PodStatus, metadata: Partial<V1Pod["metadata"]> = {}): V1Pod {
  return {
    metadata: {
      name: "sockerless-cccccccccccc-1",
      uid: "uid",
      labels: { "sockerless/instance": "0123456789abcdef" },
      annotations: { "sockerless/container-id": "c".repeat(64), "sockerless/generation": "1" },
      ...metadata,
    },
    status,
  };
}

function mainIs(state: V1ContainerState): V1PodStatus {
  return {
    containerStatuses: [{ name: "main", state, image: "", imageID: "", ready: false, restartCount: 0 }],
  };
}

const alone = { deleted: false, stopped: false };
const ours = { deleted: false, stopped: true };

describe("a pod as Kubernetes tells of it", () => {
  it("is a container's, of an instance", () => {
    const view = viewOf(podWith({ phase: "Pending" }), alone);
    assert.deepEqual(
      [view.task, view.instance, view.containerId, view.generation],
      ["sockerless-cccccccccccc-1/uid", "sockerless/0123456789abcdef", "c".repeat(64), 1n],
    );
    assert.equal(viewOf({ metadata: { name: "other" } }, alone).instance, "");
  });

  it("has an address once its container runs", () => {
    const pending = { phase: "Pending", podIP: "10.0.0.7" };
    assert.equal(viewOf(podWith(pending), alone).address, undefined);
    const view = viewOf(podWith({ ...mainIs(running), phase: "Running", podIP: "10.0.0.7" }), alone);
    assert.equal(view.address, "sockerless-cccccccccccc-1/10.0.0.7");
    assert.deepEqual([view.stopping, view.stopped], [false, false]);
  });

  it("has ended with an exit code", () => {
    const view = viewOf(podWith({ ...mainIs({ terminated: { exitCode: 3 } }), phase: "Failed" }), alone);
    assert.deepEqual([view.stopped, view.exitCode, view.interruption], [true, 3, ""]);
    assert.equal(view.prospect, "lasts");
  });

  it("has ended at once where it is deleted, or its container's end is reported", () => {
    const failed = (state: V1ContainerState): V1Pod => podWith({ ...mainIs(state), phase: "Failed" });
    const isEndDue = true;
    assert.equal(viewOf(failed(running), { ...alone, isEndDue }).stopped, false);
    assert.equal(viewOf(failed(running), { ...alone, isEndDue, deleted: true }).stopped, true);
    assert.equal(viewOf(failed({ terminated: { exitCode: 3 } }), { ...alone, isEndDue }).stopped, true);
    assert.equal(viewOf(failed({ waiting: {} }), { ...alone, isEndDue }).stopped, true);
  });

  it("has its end reported by its node, not where Kubernetes gives it up", () => {
    const ended: V1ContainerState = { terminated: { exitCode: 3 } };
    assert.equal(isEndReported(podWith({ ...mainIs(ended), phase: "Failed" })), true);
    assert.equal(isEndReported(podWith({ ...mainIs(running), phase: "Failed" })), false);
  });

  it("has ended although the container of another in it runs on", () => {
    const view = viewOf(podWith({ ...mainIs({ terminated: { exitCode: 137 } }), phase: "Running" }), alone);
    assert.deepEqual([view.stopping, view.stopped, view.exitCode], [true, true, 137]);
  });

  it("was killed for lack of memory", () => {
    const killed = { terminated: { exitCode: 137, reason: "OOMKilled" } };
    const pod = podWith({ ...mainIs(killed), phase: "Failed" });
    const containers = ["sidecar", "main"].map((name) => ({ name, resources: { limits: { memory: name } } }));
    const view = viewOf({ ...pod, spec: { containers } }, alone);
    assert.match(view.outOfMemory, /OOMKilled, its limit is main/);
  });

  const ends: readonly (readonly [string, V1PodStatus, RegExp])[] = [
    [
      "evicted",
      { phase: "Failed", reason: "Evicted", message: "The node was low on resource" },
      /Evicted: The node was low/,
    ],
    [
      "preempted",
      {
        phase: "Failed",
        conditions: [
          { type: "DisruptionTarget", status: "True", reason: "PreemptionByScheduler", message: "made room" },
        ],
      },
      /PreemptionByScheduler: made room/,
    ],
    [
      "lost with its node",
      { phase: "Failed", reason: "NodeLost", message: "Node is gone" },
      /NodeLost: Node is gone/,
    ],
  ];
  for (const [what, status, words] of ends) {
    it(`was ${what}, and another may fare better`, () => {
      const view = viewOf(podWith(status), alone);
      assert.match(view.interruption, words);
      assert.equal(view.prospect, "passes");
    });
  }

  it("was deleted by somebody, or by us", () => {
    const leaving = podWith({ ...mainIs(running), phase: "Running" }, { deletionTimestamp: new Date() });
    const view = viewOf(leaving, alone);
    assert.deepEqual([view.stopping, view.stopped], [true, false]);
    assert.equal(view.interruption, "the pod was deleted in Kubernetes");
    assert.equal(viewOf(leaving, ours).interruption, "");
    assert.equal(viewOf(leaving, { ...ours, deleted: true }).stopped, true);
  });

  for (const [endedMs, interruption] of [
    [30_000, "the pod was deleted in Kubernetes"],
    [29_000, ""],
  ] as const) {
    it(`had its deletion requested at 30 s, and ended at ${endedMs / 1000} s`, () => {
      const ended = mainIs({ terminated: { exitCode: 137, finishedAt: new Date(endedMs) } });
      const deletion = { deletionTimestamp: new Date(60_000), deletionGracePeriodSeconds: 30 };
      const view = viewOf(podWith({ ...ended, phase: "Failed" }, deletion), alone);
      assert.equal(view.interruption, interruption);
    });
  }

  it("runs on beside a sidecar that fails", () => {
    const status = mainIs(running);
    const waiting = { reason: "CrashLoopBackOff", message: "back-off" };
    const sidecar = { name: "sidecar", image: "", imageID: "", ready: false, restartCount: 3 };
    status.initContainerStatuses = [{ ...sidecar, state: { waiting } }];
    assert.equal(viewOf(podWith({ ...status, phase: "Running" }), alone).stopping, false);
  });

  const waits: readonly (readonly [string, string, string])[] = [
    ["ErrImagePull", 'failed to pull "x": not found', "lasts"],
    ["ImagePullBackOff", 'Back-off pulling image "x": dial tcp: i/o timeout', "passes"],
    ["CreateContainerConfigError", 'secret "s" is there no more', "lasts"],
  ];
  for (const [reason, message, prospect] of waits) {
    it(`does not come up for ${reason}, and says why`, () => {
      const view = viewOf(podWith({ ...mainIs({ waiting: { reason, message } }), phase: "Pending" }), alone);
      assert.deepEqual([view.stopping, view.stopped, view.isReasonTold], [true, false, true]);
      assert.equal(view.reason, `${message} (${reason})`);
      assert.equal(view.prospect, prospect);
    });
  }

  it("waits for a node, and says for what", () => {
    const view = viewOf(
      podWith({
        phase: "Pending",
        conditions: [
          {
            type: "PodScheduled",
            status: "False",
            reason: "Unschedulable",
            message: "0/1 nodes are available",
          },
        ],
      }),
      alone,
    );
    assert.equal(view.status, "Pending (Unschedulable: 0/1 nodes are available)");
    assert.equal(view.stopping, false);
  });
});
