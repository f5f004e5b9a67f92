/** The calls by which a container's job is made and started, each with the answer that Azure rarely gives. */
import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";

import { callbackSecrets } from "../../src/backends/aca/agents.ts";
import { type AzureClients, createAzureClients } from "../../src/backends/aca/arm/clients.ts";
import { callbackSecretName } from "../../src/backends/aca/jobs/job.ts";
import {
  type JobRequestsOptions,
  jobRequests,
  parseRequest,
} from "../../src/backends/aca/jobs/job-requests.ts";
import { ContainerJobs } from "../../src/backends/aca/jobs/jobs.ts";
import { preparedJobs } from "../../src/backends/aca/jobs/prepared-jobs.ts";
import { acaMachine } from "../../src/backends/aca/machine.ts";
import { instanceTag, parseTask } from "../../src/backends/aca/tags.ts";
import { isUndone } from "../../src/backends/cloud/contract/cloud-error.ts";
import type { TaskAnswer, TaskRequests } from "../../src/backends/cloud/contract/cloud-tasks.ts";
import { createSealer } from "../../src/backends/cloud/authority/seal.ts";
import { capturedLogger } from "../../src/backends/cloud/testing/captured-logger.ts";
import { workloadSpec } from "../../src/backends/cloud/testing/workload-spec.ts";
import { type Clock, systemClock } from "../../src/common/clock.ts";
import { newId } from "../../src/common/ids.ts";
import { AzureScene } from "../simulators/azure/azure-scene.ts";
import type { Principal } from "../simulators/azure/entra/entra.ts";
import { untilTrue } from "../support/until.ts";
import { defaultSwitches, noDelays } from "../simulators/azure/switches.ts";

/** A call that Azure does not answer for so long is lost. */
const answerLimitMs = 30_000;

/** A clock by which sleeps are over at once, and take their time; that of a call for its answer is a real one. */
function hastyClock(): Clock & { sleptMs: number } {
  return {
    sleptMs: 0,
    nowMs() {
      return systemClock.nowMs() + this.sleptMs;
    },
    nowNs: () => systemClock.nowNs(),
    async sleep(ms, signal) {
      if (ms === answerLimitMs) {
        await setTimeout(ms, undefined, { signal });
        return;
      }
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
  /** The backend's. */
  let principal: Principal;
  let takeRoleBack: () => void;

  before(async () => {
    scene = await AzureScene.start({ lightweight: true });
    environment = { ...process.env };
    principal = scene.azure.entra.createApplication();
    Object.assign(process.env, scene.azure.environmentFor(principal));
  });
  after(async () => {
    process.env = environment;
    await scene?.[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    clock = hastyClock();
    failed.length = 0;
    scene.azure.calls.clear();
    takeRoleBack = scene.azure.entra.assign(principal, ["*"]);
  });
  afterEach(() => {
    const { faults, switches, delays } = scene.azure;
    takeRoleBack();
    faults.clear();
    Object.assign(switches, defaultSwitches());
    Object.assign(delays, noDelays());
  });

  const haveRole = (actions: readonly string[], scope?: string): void => {
    takeRoleBack();
    takeRoleBack = scene.azure.entra.assign(principal, actions, scope);
  };

  const clients = (): AzureClients => {
    const { endpoint, subscription } = scene.azure;
    const { logger } = capturedLogger();
    return createAzureClients({ ...subscription, endpoint, rates: {}, clock, logger });
  };

  /** Another process of the backend knows nothing of what the one before has asked. */
  const startBackend = (): ContainerJobs => {
    const { resourceGroup, environmentId } = scene.azure.subscription;
    const { logger } = capturedLogger();
    const azure = clients();
    return new ContainerJobs({
      ...{ azure, resourceGroup, environmentId, instance, clock, logger },
      secretOf: callbackSecrets(createSealer(new Uint8Array(32))),
      registryPassword: undefined,
      containerTimeMs: 600_000,
      isOnBooks: () => false,
      environmentOf: () => undefined,
      isContainer: (id) => id !== "",
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

  it("has a job of its name that is not this start's leaves that as it is", async () => {
    const asked = await request();
    const { name, job } = parseRequest(asked);
    for (const tags of [{}, { ...job.tags, [instanceTag]: "sockerless/another" }]) {
      await scene.write(name, "true", { tags });
      scene.azure.calls.clear();
      await assert.rejects(startBackend().run(asked, signal), {
        kind: "conflict",
        message: new RegExp(`a job ${name} already, .* not for this start`),
      });
      assert.deepEqual([calls("Jobs_CreateOrUpdate"), calls("Jobs_Start"), failed], [0, 0, []]);
    }
  });

  it("has a quota of cores tells it for metrics, with what jobs take, once a minute", async () => {
    const { location, resourceGroup, environment: managedEnvironmentName } = scene.azure.subscription;
    const quotas = async (
      machine = acaMachine({ location, resourceGroup, managedEnvironmentName }, clients(), clock),
    ) => {
      const [quota] = await machine.quotas(signal);
      return { machine, quota };
    };
    scene.azure.switches.maxCores = 20;
    const { machine, quota: before } = await quotas();
    assert.equal(before?.most, 20);
    const jobs = startBackend();
    const task = taskOf(await jobs.run(await request(), signal));
    assert.deepEqual((await quotas(machine)).quota, before);
    clock.sleptMs += 61_000;
    const { quota: during } = await quotas(machine);
    assert.deepEqual([during?.most, (during?.used ?? 0) - before.used], [20, 1]);
    await jobs.remove(parseTask(task).job);
    assert.deepEqual((await quotas()).quota, before);
    haveRole(["Microsoft.App/managedEnvironments/read"]);
    assert.equal((await quotas()).quota, undefined);
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

  it("has a prepared job tells that, and once it is claimed its container", async () => {
    const jobs = startBackend();
    const prepared = preparedJobs(jobs);
    const asked = await request();
    const preparation = { name: newId(), shape: prepared.shapeOf(asked), waitMs: 60_000, callToken: "" };
    const task = taskOf(await jobs.run(prepared.prepare(asked, preparation), signal));
    const seenBy = async (other: ContainerJobs) => {
      assert.deepEqual(
        (await other.listOwn()).filter((each) => each === task),
        [task],
      );
      const [view] = (await other.describe([task], signal)).views;
      return { containerId: view?.containerId, generation: view?.generation, name: view?.prepared?.name };
    };
    for (const other of [jobs, startBackend()]) {
      const waiting = { containerId: "", generation: 0n, name: preparation.name };
      assert.deepEqual(await seenBy(other), waiting);
    }
    const { containerId } = parseRequest(asked);
    Object.assign(scene.azure.delays, { writeJob: 1 });
    for (let times = 1; times <= 2; times++) {
      await jobs.claim(task, { containerId, launchGeneration: 3n, request: asked }, signal);
    }
    for (const other of [jobs, startBackend()]) {
      assert.deepEqual(await seenBy(other), { containerId, generation: 3n, name: preparation.name });
    }
    assert.deepEqual(scene.azure.app.jobs.body(parseTask(task).job)?.tags, {
      "sockerless-instance": instance,
      "sockerless-container": containerId,
      "sockerless-generation": "3",
    });
  });

  it("is asked for a prepared job keeps it until it is seen, and no longer where it does not start", async () => {
    const jobs = startBackend();
    const prepared = preparedJobs(jobs);
    const preparation = () => ({ name: newId(), shape: "s", waitMs: 60_000, callToken: "" });
    const asked = prepared.prepare(await request(), preparation());
    const task = taskOf(await jobs.run(asked, signal));
    assert.ok(jobs.isBeingStarted(parseTask(task).job));
    await jobs.describe([task], signal);
    assert.ok(!jobs.isBeingStarted(parseTask(task).job));
    scene.azure.faults.add({ on: "app.Jobs_Start", error: { code: "Conflict", status: 409 } });
    const refused = prepared.prepare(await request(), preparation());
    await jobs.run(refused, signal);
    assert.ok(!jobs.isBeingStarted(parseRequest(refused).name));
  });

  it("shows a job only some time after it has made it starts it once", async () => {
    const jobs = startBackend();
    const asked = await request();
    scene.azure.switches.eventualConsistencyMs = 60_000;
    for (let attempt = 1; attempt <= 2; attempt++) {
      const answer = await jobs.run(asked, signal);
      assert.ok("reason" in answer && /^Jobs_Start: .*ResourceNotFound/.test(answer.reason));
    }
    scene.azure.clock.advance(60_000);
    const task = taskOf(await jobs.run(asked, signal));
    assert.deepEqual([executionsOf(asked), clock.sleptMs], [[task], 0]);
  });

  it("answers a change of a job as if it were new does not start it again", async () => {
    const jobs = startBackend();
    const asked = await request();
    scene.azure.switches.updatesAreAnswered = 201;
    scene.azure.faults.add({ on: "app.Jobs_Start", cut: "after" });
    assert.ok("reason" in (await jobs.run(asked, signal)));
    scene.azure.faults.add({ on: "app.Jobs_Get", error: { code: "ResourceNotFound", status: 404 } });
    const task = taskOf(await jobs.run(asked, signal));
    assert.equal(calls("Jobs_CreateOrUpdate"), 2);
    assert.deepEqual(executionsOf(asked), [task]);
  });

  it("refuses a look at the operation of an accepted start has started it", async () => {
    const jobs = startBackend();
    const asked = await request();
    scene.azure.delays.start = 60_000;
    scene.azure.faults.add({
      on: "app.containerappsjobOperationResults_Get",
      error: { code: "AuthorizationFailed", status: 403 },
      times: Number.POSITIVE_INFINITY,
    });
    const task = taskOf(await jobs.run(asked, signal));
    assert.deepEqual([executionsOf(asked), calls("Jobs_Start")], [[task], 1]);
  });

  it("neither names what it has started nor tells of its operation has started it once", async () => {
    const jobs = startBackend();
    Object.assign(scene.azure.switches, { startsAreNamed: false });
    Object.assign(scene.azure.delays, { start: 60_000 });
    const error = { code: "AuthorizationFailed", status: 403 };
    const times = Number.POSITIVE_INFINITY;
    scene.azure.faults.add({ on: "app.containerappsjobOperationResults_Get", error, times });
    const listed = await request();
    const task = taskOf(await jobs.run(listed, signal));
    assert.deepEqual(executionsOf(listed), [task]);
    assert.equal(calls("Jobs_Start"), 1);

    const unlisted = await request();
    scene.azure.faults.add({ on: "app.JobsExecutions_List", error });
    const answer = await jobs.run(unlisted, signal);
    assert.ok("reason" in answer && answer.reason.includes("AuthorizationFailed"));
    assert.ok(!isUndone(answer.cause), "it may run");
    const found = taskOf(await jobs.run(unlisted, signal));
    assert.deepEqual(executionsOf(unlisted), [found]);
    assert.equal(calls("Jobs_Start"), 2);
  });

  it("refuses a look at the operation of an accepted stop is not asked for another", async () => {
    const jobs = startBackend();
    const task = taskOf(await jobs.run(await request(), signal));
    for (const on of ["app.containerappsjobOperationResults_Get", "app.JobExecution"]) {
      const error = { code: "AuthorizationFailed", status: 403 };
      scene.azure.faults.add({ on, error, times: Number.POSITIVE_INFINITY });
    }
    scene.azure.delays.stop = 60_000;
    await jobs.stop(task, "the test");
    scene.azure.faults.clear();
    const other = startBackend();
    await untilTrue(async () => (await other.describe([task], signal)).views[0]?.stopped === true);
    await jobs.stop(task, "the test, which has not seen the end");
    assert.equal(calls("Jobs_StopExecution"), 1);
  });

  it("does not let its operations be looked at, which are the subscription's, goes on with the job itself", async () => {
    const { subscriptionId, resourceGroup } = scene.azure.subscription;
    haveRole(["Microsoft.App/*"], `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}`);
    const jobs = startBackend();
    const asked = await request();
    Object.assign(scene.azure.delays, { writeJob: 1, start: 1 });
    const answer = await jobs.run(asked, signal);
    assert.ok("reason" in answer && /OperationStatuses\/read.*AuthorizationFailed/.test(answer.reason));
    const task = taskOf(await jobs.run(asked, signal));
    assert.deepEqual([executionsOf(asked), calls("Jobs_CreateOrUpdate"), clock.sleptMs], [[task], 1, 0]);
  });

  it("lets its principal do all but one thing names that", async () => {
    const task = taskOf(await startBackend().run(await request(), signal));
    const other = await request();
    const started = async (jobs: ContainerJobs): Promise<void> => {
      const answer = await jobs.run(other, signal);
      throw "cause" in answer ? answer.cause : new Error("it has started");
    };
    const needs: readonly (readonly [string, (jobs: ContainerJobs) => Promise<unknown>])[] = [
      ["jobs/read", started],
      ["jobs/write", started],
      ["jobs/start/action", started],
      ["jobs/execution/read", (jobs) => jobs.describe([task], signal)],
      ["jobs/executions/read", (jobs) => jobs.isRunning(parseTask(task).job)],
      ["jobs/stop/execution/action", (jobs) => jobs.stop(task, "the test")],
      ["jobs/delete", (jobs) => jobs.remove(parseTask(task).job)],
    ];
    const all = needs.map(([action]) => `Microsoft.App/${action}`);
    for (const [missing, work] of needs) {
      haveRole(all.filter((action) => action !== `Microsoft.App/${missing}`));
      const told = await work(startBackend()).then(String, String);
      const words = `does not have authorization to perform action 'Microsoft.App/${missing}'`;
      assert.ok(told.includes(words) && told.endsWith("(AuthorizationFailed)"), `${missing}: ${told}`);
    }
  });
});
