import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, it } from "node:test";

import type { Clock } from "../../../common/clock.ts";
import { isErrorKind } from "../../../common/errors.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import type { CloudAuthority } from "../authority/authority.ts";
import { agentPort } from "../agents/agent-port.ts";
import { awaitAgent } from "./await-agent.ts";
import { dialledAgents } from "../agents/dialled-agents.ts";
import type { TaskView } from "../contract/cloud-tasks.ts";
import { failedCall, taskView, testCloud } from "../testing/cloud.ts";
import type { FailureListener, TaskListener } from "./poller.ts";
import { StartTimeout } from "./start-limit.ts";
import { untilTrue } from "../../../../test/support/until.ts";

const cloud = testCloud();
const hint = "is it let in?";
const nobody: Pick<CloudAuthority, "credentialsFor"> = {
  credentialsFor: () => Promise.reject(new Error("nobody is dialled in these tests")),
};

describe("waiting for a task's agent", () => {
  let listeners: Set<TaskListener>;
  let fail: FailureListener | undefined;
  let clock: ManualClock;
  let limit: AbortController;
  let hastened: number;
  let told: string[];

  beforeEach(() => {
    told = [];
    listeners = new Set();
    clock = new ManualClock();
    limit = new AbortController();
    hastened = 0;
  });

  const poller = {
    listen: (_task: string, listener: TaskListener, failed?: FailureListener) => {
      listeners.add(listener);
      fail = failed;
      return () => void listeners.delete(listener);
    },
    hasten: () => {
      hastened++;
    },
  };
  const waitWith = (authority: Pick<CloudAuthority, "credentialsFor">, at: Clock) => {
    const finder = dialledAgents({ authority, clock: at, hint });
    const progress = {
      phase: () => {},
      waits: (reason: string) => void told.push(reason),
      goesOn: () => void told.push("goes on"),
    };
    const options = { cloud, poller, finder, clock: at, ...progress };
    return awaitAgent("container", { task: "task/1", launchGeneration: 1n }, limit.signal, options);
  };
  const wait = () => waitWith(nobody, clock);
  const tell = (view: Parameters<TaskListener>[0]): void => {
    for (const listener of [...listeners]) {
      listener(view);
    }
  };

  it("ends with the cloud's reason when the task stops, and listens no more", async () => {
    const waiting = wait();
    tell(taskView());
    tell(taskView({ status: "STOPPED", stopping: true, stopped: true, reason: "cannot pull the image" }));
    await assert.rejects(waiting, /failed to start a task for the container: cannot pull the image/);
    assert.equal(listeners.size, 0);
  });

  it("takes it that the cloud does not know the task yet, but not for long", async () => {
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
    await assert.rejects(waiting, /Nimbus does not know the task any more/);
  });

  const denied = failedCall("refused", "not authorized to describe tasks");
  const down = failedCall("unknown", "down");

  it("tells at once that looks are denied, and once, while that may pass", async () => {
    const waiting = wait();
    const notYet = failedCall("refused", "not authorized to describe tasks", "denied");
    const words = "it is denied, or not allowed yet, and asked for again: not authorized to describe tasks";
    fail?.(notYet);
    assert.deepEqual(told, [words]);
    await clock.advance(5_000);
    fail?.(notYet);
    assert.deepEqual(told, [words]);
    tell(taskView());
    tell(taskView());
    assert.deepEqual(told, [words, "goes on"]);
    fail?.(notYet);
    await clock.advance(cloud.grantDelayMs);
    fail?.(notYet);
    await assert.rejects(waiting, /not authorized to describe tasks/);
    assert.deepEqual(told, [words, "goes on", words]);
  });

  it("ends with the cloud's refusal to tell of the task, once that has lasted", async () => {
    const waiting = wait();
    let ended = false;
    waiting.catch(() => {
      ended = true;
    });
    fail?.(denied);
    await clock.advance(4_000);
    fail?.(down); // Not a refusal: who knows what the cloud would say.
    await clock.advance(4_000);
    fail?.(denied);
    await clock.advance(4_000);
    tell(taskView());
    fail?.(denied);
    await clock.advance(4_000);
    fail?.(denied);
    await clock.advance(0);
    assert.ok(!ended);
    await clock.advance(1_000);
    fail?.(denied);
    await assert.rejects(waiting, (error: Error) => {
      assert.ok(isErrorKind(error, "system"));
      assert.match(error.message, /^failed to start a task for the container: not authorized/);
      return true;
    });
    assert.equal(listeners.size, 0);
  });

  it("goes on where nobody answers, however long that lasts", async () => {
    const waiting = wait();
    let ended = false;
    waiting.catch(() => {
      ended = true;
    });
    fail?.(down);
    await clock.advance(60_000);
    fail?.(down);
    await clock.advance(0);
    assert.ok(!ended);
    limit.abort(new Error("enough"));
    await assert.rejects(waiting, /enough/);
  });

  it("names what the cloud has said last when it may not take longer, however long that has lasted", async () => {
    for (const failure of [denied, down]) {
      limit = new AbortController();
      const waiting = wait();
      tell(taskView());
      fail?.(failure);
      limit.abort(new StartTimeout(300_000, "nimbus"));
      await assert.rejects(waiting, (error: Error) => {
        assert.ok(isErrorKind(error, "system"));
        assert.ok(error.message.includes(failure.message), error.message);
        assert.match(error.message, /Nimbus does not tell of it \(it was PENDING before\)/);
        return true;
      });
    }
  });

  it("says how far it has come when it may not take longer", async () => {
    const ways: readonly (readonly [TaskView | undefined, RegExp])[] = [
      [undefined, /within 300 s \(nimbus\.start_timeout\): Nimbus does not show it/],
      [taskView({ status: "PROVISIONING" }), /: it is PROVISIONING$/],
      [
        taskView({ status: "RUNNING", address: "10.0.0.9" }),
        /it is RUNNING, and its agent does not answer at 10\.0\.0\.9:9111 \(is it let in\?\)$/,
      ],
    ];
    for (const [view, expected] of ways) {
      limit = new AbortController();
      const waiting = wait();
      if (view !== undefined) {
        tell(view);
      }
      limit.abort(new StartTimeout(300_000, "nimbus"));
      await assert.rejects(waiting, (error: Error) => {
        assert.ok(isErrorKind(error, "system"));
        assert.match(error.message, expected);
        return true;
      });
    }
  });

  it("looks again soon where a task has no address yet, once", async () => {
    const waiting = wait();
    tell(taskView({ status: "PROVISIONING" }));
    tell(taskView({ status: "PROVISIONING" }));
    assert.equal(hastened, 1);
    limit.abort(new Error("enough"));
    await assert.rejects(waiting, /enough/);
  });

  describe("at an address", () => {
    let dialled: Socket[];
    let silent: Server;
    let waiting: Promise<unknown>[];

    beforeEach(() => {
      dialled = [];
      waiting = [];
      silent = createServer((socket) => {
        dialled.push(socket.on("error", () => {}));
        socket.resume();
      });
    });
    afterEach(async () => {
      limit.abort(new Error("enough"));
      for (const each of waiting) {
        await assert.rejects(each, /enough/);
      }
      for (const socket of dialled) {
        socket.destroy();
      }
      if (silent.listening) {
        await once(silent.close(), "close");
      }
    });

    const waitAt = (address: string, at: Clock = clock): void => {
      const authority = { credentialsFor: () => Promise.resolve({ key: "", certificateChain: "" }) };
      const agent = waitWith(authority, at);
      agent.catch(() => {});
      waiting.push(agent);
      tell(taskView({ address }));
    };
    const someAddress = (): string => `127.${randomInt(1, 255)}.${randomInt(255)}.${randomInt(1, 255)}`;

    it("that refuses, it tries again soon", async () => {
      const address = someAddress();
      waitAt(address);
      await untilTrue(() => clock.sleeping === 1 && dialled.length === 0);
      await once(silent.listen(agentPort, address), "listening");
      await untilTrue(async () => {
        await clock.advance(5);
        return dialled.length === 1;
      });
    });

    for (const [count, pauseMs, often] of [
      [1, 20, "within 20 ms"],
      [60, 500, "more rarely where it is one of many"],
    ] as const) {
      it(`that refuses for long, it tries again ${often}`, async () => {
        const slept: number[] = [];
        let skippedMs = 0;
        const skipping = {
          nowMs: () => clock.nowMs() + skippedMs,
          nowNs: () => clock.nowNs(),
          sleep: (ms: number, signal?: AbortSignal) => {
            slept.push(ms);
            return clock.sleep(ms, signal);
          },
        };
        const address = someAddress();
        for (let n = 0; n < count; n++) {
          waitAt(address, skipping);
        }
        await untilTrue(() => slept.length === 2 * count); // Each attempt has a limit, and a pause behind it.
        skippedMs = 60_000;
        await clock.advance(slept.at(-1) ?? 0);
        await untilTrue(() => slept.length === 4 * count);
        assert.deepEqual(new Set(slept.slice(2 * count)), new Set([2_000, pauseMs]));
      });
    }

    it("that has taken the connection, a busy agent gets time for its handshake", async () => {
      const address = someAddress();
      await once(silent.listen(agentPort, address), "listening");
      waitAt(address);
      await untilTrue(() => dialled.length === 1);
      await clock.advance(29_000);
      assert.equal(dialled.length, 1);
      await clock.advance(1_000);
      await untilTrue(async () => {
        await clock.advance(500);
        return dialled.length === 2;
      });
    });
  });

  it("ends at once when nobody waits any more", async () => {
    limit.abort(new Error("the backend is shutting down"));
    await assert.rejects(wait(), /shutting down/);
    assert.equal(listeners.size, 0);
  });
});
