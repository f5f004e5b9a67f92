import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";

import type { ECSClient } from "@aws-sdk/client-ecs";

import { ManualClock } from "../../../common/manual-clock.ts";
import type { AwsService } from "../aws/clients.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { fakeClient } from "../testing/fake-client.ts";
import { TaskPoller } from "./poller.ts";

describe("the poller", () => {
  let clock: ManualClock;
  let poller: TaskPoller;
  let rounds: (readonly string[])[];
  let failing = false;

  beforeEach(() => {
    clock = new ManualClock();
    rounds = [];
    failing = false;
    const { client } = fakeClient<AwsService<ECSClient>>({
      DescribeTasks: ({ tasks }) => {
        if (failing) {
          throw new Error("AWS is away");
        }
        const arns = tasks as string[];
        rounds.push(arns);
        return {
          tasks: arns
            .filter((arn) => !arn.includes("lost"))
            .map((taskArn) => ({ taskArn, lastStatus: "RUNNING" })),
          failures: arns.filter((arn) => arn.includes("lost")).map((arn) => ({ arn, reason: "MISSING" })),
        };
      },
    });
    const { logger } = capturedLogger();
    poller = new TaskPoller({ ecs: client, cluster: "c", intervalMs: 1_000, clock, logger });
  });
  afterEach(() => poller.close());

  it("makes one call for a hundred tasks at a time", async () => {
    for (let number = 0; number < 250; number++) {
      poller.listen(`task/${number}`, () => {});
    }
    await clock.advance(150);
    assert.deepEqual(
      rounds.map(({ length }) => length),
      [100, 100, 50],
    );
    await clock.advance(999);
    assert.equal(rounds.length, 3);
    await clock.advance(1);
    assert.equal(rounds.length, 6);
  });

  it("asks sooner where somebody says so, but no more than twice in its interval", async () => {
    poller.listen("task/1", () => {});
    await clock.advance(150);
    poller.hasten();
    await clock.advance(499);
    assert.equal(rounds.length, 1);
    await clock.advance(1);
    assert.equal(rounds.length, 2);
    await clock.advance(999);
    assert.equal(rounds.length, 2);
  });

  it("makes no call where nobody listens", async () => {
    const end = poller.listen("task/1", () => {});
    await clock.advance(150);
    end();
    await clock.advance(60_000);
    assert.equal(rounds.length, 1);
    poller.listen("task/2", () => {});
    await clock.advance(150);
    assert.deepEqual(rounds.at(-1), ["task/2"]);
  });

  it("tells of a task that AWS does not know", async () => {
    const heard: string[] = [];
    poller.listen("task/lost", (view) => heard.push(view === "missing" ? view : view.status));
    poller.listen("task/1", (view) => heard.push(view === "missing" ? view : view.status));
    await clock.advance(150);
    assert.deepEqual(new Set(heard), new Set(["RUNNING", "missing"]));
  });

  it("goes on when a round fails, which is told to those who listen for it", async () => {
    failing = true;
    const failures: unknown[] = [];
    poller.listen(
      "task/1",
      () => {},
      (error) => failures.push(error),
    );
    poller.listen("task/2", () => {});
    await clock.advance(150);
    assert.match(String(failures), /^Error: AWS is away$/);
    failing = false;
    await clock.advance(1_000);
    assert.equal(rounds.length, 1);
    assert.equal(failures.length, 1);
  });

  it("tells of a failed round those of whom it told nothing, and no others", async () => {
    const failures: string[] = [];
    for (let number = 0; number < 150; number++) {
      poller.listen(
        `task/${number}`,
        () => (failing = true), // From the second call on.
        () => failures.push(`task/${number}`),
      );
    }
    await clock.advance(150);
    assert.equal(rounds.length, 1);
    assert.deepEqual(
      failures,
      Array.from({ length: 50 }, (_, index) => `task/${100 + index}`),
    );
  });
});
