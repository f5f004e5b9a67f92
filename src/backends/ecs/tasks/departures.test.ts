import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";

import type { ECSClient } from "@aws-sdk/client-ecs";

import { ManualClock } from "../../../common/manual-clock.ts";
import type { AwsService } from "../aws/clients.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { fakeClient } from "../testing/fake-client.ts";
import { Departures } from "./departures.ts";
import { TaskPoller } from "./poller.ts";

const arn = "arn:task";

describe("a task that lingers", () => {
  let clock: ManualClock;
  let task: object | undefined;
  let departures: Departures;
  let stops: () => number;
  let close: () => Promise<void>;
  let gone: boolean;

  beforeEach(() => {
    clock = new ManualClock();
    task = { taskArn: arn, lastStatus: "RUNNING", desiredStatus: "RUNNING" };
    gone = false;
    const { client, made } = fakeClient<AwsService<ECSClient>>({
      DescribeTasks: () => (task === undefined ? { failures: [{ arn }] } : { tasks: [task] }),
      StopTask: () => ({}),
    });
    stops = () => made("StopTask").length;
    const { logger } = capturedLogger();
    const options = { ecs: client, cluster: "c", clock, logger };
    const poller = new TaskPoller({ ...options, intervalMs: 1_000 });
    const patientPoller = new TaskPoller({ ...options, intervalMs: 5_000 });
    departures = new Departures({ ...options, poller, patientPoller });
    close = async () => {
      await Promise.all([departures.close(), poller.close(), patientPoller.close()]);
    };
    departures.expect(arn, clock.nowMs() + 60_000, () => {
      gone = true;
      return Promise.resolve();
    });
  });
  afterEach(() => close());

  const pass = async (seconds: number): Promise<void> => {
    for (let second = 0; second < seconds; second++) {
      await clock.advance(1_000);
    }
  };

  it("is gone as soon as somebody in ECS has it stopped", async () => {
    await pass(10);
    assert.ok(!gone);
    task = { taskArn: arn, lastStatus: "RUNNING", desiredStatus: "STOPPED" };
    await pass(6);
    assert.ok(gone);
    assert.equal(stops(), 0);
  });

  it("is there though AWS does not know it for a while, until its time has come", async () => {
    task = undefined;
    await pass(59);
    assert.ok(!gone);
    await pass(3);
    assert.ok(gone);
  });

  it("is not looked at any more when it is used again", async () => {
    departures.cancel(arn);
    task = { taskArn: arn, lastStatus: "STOPPED", desiredStatus: "STOPPED" };
    await pass(120);
    assert.ok(!gone);
  });
});
