import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { Task } from "@aws-sdk/client-ecs";

import { isErrorKind } from "../../../common/errors.ts";
import { exitOfTask, failureOfTask, PassingFailure } from "../../cloud/tasks/task-end.ts";
import { viewOf } from "./task-view.ts";

const now = new Date("2026-11-20T12:00:00Z");

function stopped(fields: Partial<Task>, main: object = {}) {
  return viewOf({
    lastStatus: "STOPPED",
    desiredStatus: "STOPPED",
    containers: [{ name: "main", ...main }, { name: "agent" }],
    ...fields,
  });
}

describe("a start whose task ended", () => {
  it("is told in AWS's words, each once", () => {
    const reason = "CannotPullContainerError: pull image manifest has been retried 7 time(s)";
    const { message } = failureOfTask(
      stopped({ stopCode: "TaskFailedToStart", stoppedReason: reason }, { reason }),
    );
    assert.equal(message, `failed to start a task for the container: ${reason}`);
  });

  it("may succeed later where capacity is short", () => {
    const failure = failureOfTask(
      stopped({ stopCode: "TaskFailedToStart", stoppedReason: "Capacity is unavailable at this time." }),
    );
    assert.ok(isErrorKind(failure, "unavailable"));
  });

  it("names the agent's exit code where that is all there is", () => {
    const { message } = failureOfTask(
      stopped(
        { stopCode: "EssentialContainerExited", stoppedReason: "Essential container in task exited" },
        { exitCode: 2 },
      ),
    );
    assert.match(message, /exit code 2 before it was told to run/);
  });
});

describe("the end of a container whose agent cannot tell", () => {
  it("is the main container's exit code", () => {
    const stoppedAt = new Date("2026-11-20T11:59:00Z");
    const exit = exitOfTask(
      stopped({ stopCode: "EssentialContainerExited", stoppedAt }, { exitCode: 3 }),
      now,
    );
    assert.deepEqual(exit, { code: 3, oomKilled: false, finishedAt: stoppedAt, error: "" });
  });

  it("is never 0 where nobody saw it succeed", () => {
    for (const [fields, main] of [
      [{ stopCode: "TaskFailedToStart", stoppedReason: "gone" }, {}],
      [{ stopCode: "SpotInterruption", stoppedReason: "Your Spot Task was interrupted." }, { exitCode: 0 }],
      [{ stopCode: "UserInitiated" }, { exitCode: 0 }],
    ] as const) {
      const exit = exitOfTask(stopped(fields, main), now);
      assert.equal(exit.code, 255);
      assert.notEqual(exit.error, "");
    }
  });

  it("keeps the code of an interrupted process that told one, and says what ended it", () => {
    const exit = exitOfTask(stopped({ stopCode: "SpotInterruption" }, { exitCode: 143 }), now);
    assert.equal(exit.code, 143);
    assert.match(exit.error, /Spot capacity/);
  });

  it("does not call it an interruption where this backend has stopped the task", () => {
    const ours = { stopCode: "UserInitiated", stoppedReason: "sockerless: the container has ended" } as const;
    assert.equal(exitOfTask(stopped(ours, { exitCode: 143 }), now).error, "");
    const others = { stopCode: "UserInitiated", stoppedReason: "by hand" } as const;
    assert.match(exitOfTask(stopped(others, { exitCode: 143 }), now).error, /stopped in ECS: by hand/);
  });

  it("says that memory ran out", () => {
    const reason = "OutOfMemoryError: Container killed due to memory usage";
    const exit = exitOfTask(stopped({}, { exitCode: 137, reason }), now);
    assert.deepEqual([exit.code, exit.oomKilled, exit.error], [137, true, reason]);
  });
});

describe("a task that got no network interface", () => {
  it("is told from others, and its start may succeed later", () => {
    for (const word of ["NetworkInterfaceLimitExceeded", "InsufficientFreeAddressesInSubnet"]) {
      const stoppedReason = `Unexpected EC2 error while attempting to Create Network Interface in subnet 'subnet-1': ${word}`;
      const failure = failureOfTask(stopped({ stopCode: "TaskFailedToStart", stoppedReason }));
      assert.ok(failure instanceof PassingFailure);
      assert.equal(failure.prospect, "room");
      assert.ok(isErrorKind(failure, "unavailable"));
      assert.equal(failure.message, `failed to start a task for the container: ${stoppedReason}`);
    }
    const stoppedReason = "CannotPullContainerError: manifest unknown";
    const other = failureOfTask(stopped({ stopCode: "TaskFailedToStart", stoppedReason }));
    assert.ok(!(other instanceof PassingFailure));
  });
});

describe("a task's view", () => {
  it("finds the address on the interface, once it is there", () => {
    const attachment = { type: "ElasticNetworkInterface", status: "PRECREATED" };
    assert.equal(viewOf({ attachments: [{ ...attachment, details: [] }] }).address, undefined);
    const details = [
      { name: "subnetId", value: "subnet-1" },
      { name: "privateIPv4Address", value: "10.0.0.7" },
    ];
    assert.equal(viewOf({ attachments: [{ ...attachment, details }] }).address, "10.0.0.7");
  });

  it("tells its IPv6 address where its interface has that alone", () => {
    const addressWith = (networkInterface: object) =>
      viewOf({ containers: [{ name: "main", networkInterfaces: [networkInterface] }] }).address;
    const ipv6Address = "2001:db8::7";
    assert.equal(addressWith({ ipv6Address }), ipv6Address);
    assert.equal(addressWith({ ipv6Address, privateIpv4Address: "10.0.0.7" }), "10.0.0.7");
    assert.equal(addressWith({}), undefined, "it has none yet");
  });

  it("is a stranger's where nothing of ours stands in it", () => {
    const view = viewOf({ taskArn: "arn:x", overrides: {} });
    assert.deepEqual([view.containerId, view.generation], ["", 0n]);
  });
});
