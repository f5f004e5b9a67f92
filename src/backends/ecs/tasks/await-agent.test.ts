import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, it } from "node:test";

import type { Task } from "@aws-sdk/client-ecs";

import type { Clock } from "../../../common/clock.ts";
import { isErrorKind } from "../../../common/errors.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import type { AgentAuthority } from "../../common/driver.ts";
import { agentPort } from "../agent-port.ts";
import { awaitAgent } from "./await-agent.ts";
import { answered, refusal, unanswered } from "../testing/fake-client.ts";
import type { FailureListener, TaskListener } from "./poller.ts";
import { StartTimeout } from "./start-limit.ts";
import { untilTrue } from "../../../../test/support/until.ts";
import { viewOf } from "./task-view.ts";

const nobody: AgentAuthority = {
  credentialsFor: () => Promise.reject(new Error("nobody is dialled in these tests")),
  certify: () => Promise.resolve([]),
  certifyPartner: () => Promise.resolve([]),
};

describe("waiting for a task's agent", () => {
  let listeners: Set<TaskListener>;
  let fail: FailureListener | undefined;
  let clock: ManualClock;
  let limit: AbortController;
  let hastened: number;

  beforeEach(() => {
    listeners = new Set();
    clock = new ManualClock();
    limit = new AbortController();
    hastened = 0;
  });

  const poller = {
    listen: (_arn: string, listener: TaskListener, failed?: FailureListener) => {
      listeners.add(listener);
      fail = failed;
      return () => void listeners.delete(listener);
    },
    hasten: () => {
      hastened++;
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

  const denied = refusal("ecs", "DescribeTasks", "AccessDeniedException", "not authorized to DescribeTasks");
  const down = refusal("ecs", "DescribeTasks", "ServerException", "down");
  const unreached = unanswered("ecs", "DescribeTasks", "CredentialsProviderError", "no credentials");
  const cut = refusal("ecs", "DescribeTasks", "SyntaxError", "unexpected end", answered);

  it("ends with AWS's refusal to tell of the task, once that has lasted", async () => {
    const waiting = wait();
    let ended = false;
    waiting.catch(() => {
      ended = true;
    });
    fail?.(denied);
    await clock.advance(4_000);
    fail?.(down); // Not a refusal: who knows what AWS would say.
    await clock.advance(4_000);
    fail?.(denied);
    await clock.advance(4_000);
    tell(viewOf({ lastStatus: "PENDING", desiredStatus: "RUNNING" }));
    fail?.(denied);
    await clock.advance(4_000);
    fail?.(denied);
    await clock.advance(0);
    assert.ok(!ended);
    await clock.advance(1_000);
    fail?.(denied);
    await assert.rejects(waiting, (error: Error) => {
      assert.ok(isErrorKind(error, "system"));
      assert.match(
        error.message,
        /^failed to start a task for the container: ecs: DescribeTasks: not authorized/,
      );
      return true;
    });
    assert.equal(listeners.size, 0);
  });

  it("goes on where nobody answers, or the answers are cut, however long that lasts", async () => {
    const waiting = wait();
    let ended = false;
    waiting.catch(() => {
      ended = true;
    });
    for (const failure of [unreached, cut]) {
      fail?.(failure);
      await clock.advance(60_000);
      fail?.(failure);
      await clock.advance(0);
      assert.ok(!ended, failure.message);
    }
    limit.abort(new Error("enough"));
    await assert.rejects(waiting, /enough/);
  });

  it("names what AWS has said last when it may not take longer, however long that has lasted", async () => {
    for (const failure of [denied, down]) {
      limit = new AbortController();
      const waiting = wait();
      tell(viewOf({ lastStatus: "PENDING" }));
      fail?.(failure);
      limit.abort(new StartTimeout(300_000));
      await assert.rejects(waiting, (error: Error) => {
        assert.ok(isErrorKind(error, "system"));
        assert.ok(error.message.includes(failure.message), error.message);
        assert.match(error.message, /ECS does not tell of it \(it was PENDING before\)/);
        return true;
      });
    }
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

  it("looks again soon where a task has no address yet, once", async () => {
    const waiting = wait();
    tell(viewOf({ lastStatus: "PROVISIONING" }));
    tell(viewOf({ lastStatus: "PROVISIONING" }));
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
      const authority = {
        ...nobody,
        credentialsFor: () => Promise.resolve({ key: "", certificateChain: "" }),
      };
      const agent = awaitAgent("container", "arn:task", limit.signal, { poller, authority, clock: at });
      agent.catch(() => {});
      waiting.push(agent);
      const details = [{ name: "privateIPv4Address", value: address }];
      tell(viewOf({ lastStatus: "PENDING", attachments: [{ type: "ElasticNetworkInterface", details }] }));
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
