/** The calls by which a container's job is made and started, each with the answer that Azure rarely gives. */
import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";

import { callbackSecrets } from "../../src/backends/aca/agents.ts";
import { createAzureClients } from "../../src/backends/aca/arm/clients.ts";
import { callbackSecretName } from "../../src/backends/aca/jobs/job.ts";
import {
  type JobRequestsOptions,
  jobRequests,
  parseRequest,
} from "../../src/backends/aca/jobs/job-requests.ts";
import { ContainerJobs } from "../../src/backends/aca/jobs/jobs.ts";
import { parseTask } from "../../src/backends/aca/tags.ts";
import type { TaskAnswer, TaskRequests } from "../../src/backends/common/cloud/cloud-tasks.ts";
import { createSealer } from "../../src/backends/common/cloud/seal.ts";
import { capturedLogger } from "../../src/backends/common/cloud/testing/captured-logger.ts";
import { workloadSpec } from "../../src/backends/common/cloud/testing/workload-spec.ts";
import { type Clock, systemClock } from "../../src/common/clock.ts";
import { newId } from "../../src/common/ids.ts";
import { AzureScene } from "../simulators/azure/azure-scene.ts";

/** A clock by which sleeps are over at once, and take their time. */
function hastyClock(): Clock & { sleptMs: number } {
  return {
    sleptMs: 0,
    nowMs() {
      return systemClock.nowMs() + this.sleptMs;
    },
    nowNs: () => systemClock.nowNs(),
    async sleep(ms, signal) {
      await setTimeout(1, undefined, { signal });
      this.sleptMs += ms;
    },
  };
}

describe("the job of a start, in an Azure that", () => {
  const instance = "sockerless/0123456789abcdef";
  const signal = new AbortController().signal;
  const failed: string[] = [];
  let scene: AzureScene;
  let clock: ReturnType<typeof hastyClock>;
  let environment: NodeJS.ProcessEnv;

  before(async () => {
    scene = await AzureScene.start({ lightweight: true });
    environment = { ...process.env };
    Object.assign(process.env, scene.azure.environmentFor());
  });
  after(async () => {
    process.env = environment;
    await scene?.[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    clock = hastyClock();
    failed.length = 0;
    scene.azure.calls.clear();
  });
  afterEach(() => scene.azure.faults.clear());

  /** Another process of the backend knows nothing of what the one before has asked. */
  const startBackend = (): ContainerJobs => {
    const { endpoint, subscription } = scene.azure;
    const { subscriptionId, resourceGroup, environmentId } = subscription;
    const { logger } = capturedLogger();
    const azure = createAzureClients({ subscriptionId, endpoint, rates: {}, clock, logger });
    return new ContainerJobs({
      ...{ azure, resourceGroup, environmentId, instance, clock, logger },
      secretOf: callbackSecrets(createSealer(new Uint8Array(32))),
      registryPassword: undefined,
      isOnBooks: () => false,
      isContainer: () => true,
      ended() {},
      failed: (job) => failed.push(job),
    });
  };

  /** Requests for jobs. */
  const requests = (): TaskRequests => {
    const { location, environmentId } = scene.azure.subscription;
    const options: JobRequestsOptions = {
      images: () => Promise.resolve({ reference: scene.image, agent: undefined }),
      volumes: {
        partsOf: () => Promise.resolve({ volumes: [], mounts: [] }),
        unmounted: () => [],
        refuseUnfit() {},
      },
      job: {
        ...{ location, environmentId, instance },
        agentImage: "agent",
        replicaTimeoutMs: 600_000,
        identity: undefined,
        registry: undefined,
        authorityPin: new Uint8Array(32),
        startTimeoutMs: 60_000,
        callbackUrl: "wss://backend.example",
      },
      defaultSize: { cpu: 1, memory: 2 * 1024 ** 3 },
    };
    return jobRequests(options);
  };
  /** The request for the job of a container of its own. */
  const request = (): Promise<string> =>
    requests().make(workloadSpec({ id: newId() }), (_stillTo, work) => work());
  const calls = (operation: string): number => scene.azure.calls.count(`app.${operation}`);
  const executionsOf = (asked: string): readonly string[] =>
    scene.azure.app.executions
      .filter(({ job }) => job === parseRequest(asked).name)
      .map(({ name }) => `${parseRequest(asked).name}/${name}`);
  const taskOf = (answer: TaskAnswer): string => {
    assert.ok("task" in answer, JSON.stringify(answer));
    return answer.task;
  };

  it("refuses its start, is asked for the same job again, without a look for what cannot be there", async () => {
    const jobs = startBackend();
    const asked = await request();
    const refusals = [
      { code: "ResourceNotFound", status: 404 },
      { code: "Conflict", status: 409 },
      { code: "AuthorizationFailed", status: 403 },
    ];
    for (const error of refusals) {
      scene.azure.faults.add({ on: "app.Jobs_Start", error });
      const answer = await jobs.run(asked, signal);
      assert.ok("reason" in answer && answer.reason.includes(error.code));
    }
    const task = taskOf(await jobs.run(asked, signal));
    assert.deepEqual(executionsOf(asked), [task]);
    assert.deepEqual(
      [calls("Jobs_CreateOrUpdate"), calls("Jobs_Start"), calls("JobsExecutions_List"), clock.sleptMs],
      [1, 4, 0, 0],
    );
    assert.deepEqual(failed, Array(3).fill(parseRequest(asked).name));
  });

  it("runs two jobs of one start gives each a secret of its own", async () => {
    const jobs = startBackend();
    const first = await request();
    const second = requests().another(first, taskOf(await jobs.run(first, signal)));
    await jobs.run(second, signal);
    const secrets = [first, second].map((asked) => {
      const { configuration } = scene.azure.app.jobs.body(parseRequest(asked).name)?.properties ?? {};
      return configuration?.secrets?.find(({ name }) => name === callbackSecretName)?.value;
    });
    assert.notEqual(secrets[0], secrets[1]);
  });

  it("refuses a look at one execution tells of the others", async () => {
    const jobs = startBackend();
    const [one = "", other = ""] = await Promise.all(
      [1, 2].map(async () => taskOf(await jobs.run(await request(), signal))),
    );
    scene.azure.faults.add({
      on: "app.JobExecution",
      where: (input) => JSON.stringify(input).includes(parseTask(one).execution),
      error: { code: "AuthorizationFailed", status: 403 },
    });
    const { views, missing, failed } = await jobs.describe([one, other], signal);
    assert.deepEqual([views.map(({ task }) => task), missing], [[other], []]);
    assert.match(String(failed.get(one)), /AuthorizationFailed/);
  });
});
