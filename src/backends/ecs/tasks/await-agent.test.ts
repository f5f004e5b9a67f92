import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import type { Task } from "@aws-sdk/client-ecs";

import { isErrorKind } from "../../../common/errors.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import type { AgentAuthority } from "../../common/driver.ts";
import { awaitAgent } from "./await-agent.ts";
import type { TaskListener } from "./poller.ts";
import { StartTimeout } from "./start-limit.ts";
import { viewOf } from "./task-view.ts";

const nobody: AgentAuthority = {
  credentialsFor: () => Promise.reject(new Error("nobody is dialled in these tests")),
  certify: () => Promise.resolve([]),
};

describe("waiting for a task's agent", () => {
  let listeners: Set<TaskListener>;
  let clock: ManualClock;
  let limit: AbortController;

  beforeEach(() => {
    listeners = new Set();
    clock = new ManualClock();
    limit = new AbortController();
  });

  const poller = {
    listen: (_arn: string, listener: TaskListener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
  const wait = () => awaitAgent("container", "arn:task", limit.signal, { poller, authority: nobody, clock });
  const tell = (view: Parameters<TaskListener>[0]): void => {
    for (const listener of [...listeners]) {
      listener(view);
    }
  };

  it("ends with AWS's reason when the task stops, and listens no more", async () => {
    const waiting = wait();
    tell(viewOf({ lastStatus: "PENDING", desiredStatus: "RUNNING" }));
    tell(
      viewOf({
        lastStatus: "STOPPED",
        desiredStatus: "STOPPED",
        stopCode: "TaskFailedToStart",
        stoppedReason: "CannotPullContainerError: no",
      }),
    );
    await assert.rejects(waiting, /failed to start a task for the container: CannotPullContainerError: no/);
    assert.equal(listeners.size, 0);
  });

  it("takes it that AWS does not know the task yet, but not for long", async () => {
    const waiting = wait();
    let ended = false;
    waiting.catch(() => {
      ended = true;
    });
    tell("missing");
    await clock.advance(59_000);
    tell("missing");
    await clock.advance(0);
    assert.ok(!ended);
    await clock.advance(2_000);
    tell("missing");
    await assert.rejects(waiting, /ECS does not know the task any more/);
  });

  it("says how far it has come when it may not take longer", async () => {
    const attachment = {
      type: "ElasticNetworkInterface",
      details: [{ name: "privateIPv4Address", value: "10.0.0.9" }],
    };
    const ways: readonly (readonly [Task | undefined, RegExp])[] = [
      [undefined, /within 300 s \(ecs\.start_timeout\): ECS does not show it/],
      [{ lastStatus: "PROVISIONING" }, /: it is PROVISIONING$/],
      [
        { lastStatus: "RUNNING", attachments: [attachment] },
        /it is RUNNING, and its agent does not answer at 10\.0\.0\.9:9111/,
      ],
    ];
    for (const [view, expected] of ways) {
      limit = new AbortController();
      const waiting = wait();
      if (view !== undefined) {
        tell(viewOf(view));
      }
      limit.abort(new StartTimeout(300_000));
      await assert.rejects(waiting, (error: Error) => {
        assert.ok(isErrorKind(error, "system"));
        assert.match(error.message, expected);
        return true;
      });
    }
  });

  it("ends at once when nobody waits any more", async () => {
    limit.abort(new Error("the backend is shutting down"));
    await assert.rejects(wait(), /shutting down/);
    assert.equal(listeners.size, 0);
  });
});
