import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { Job } from "@azure/arm-appcontainers";

import { ManualClock } from "../../../common/manual-clock.ts";
import { isRefusal } from "../../cloud/contract/cloud-error.ts";
import { capturedLogger } from "../../cloud/testing/captured-logger.ts";
import { AzureError } from "../arm/errors.ts";
import { orphanedJobs } from "../orphans.ts";
import { jobNameOf, nextJobName, preparedJobName } from "../tags.ts";
import { IdleJobs } from "./idle-jobs.ts";
import { ContainerJobs, type ContainerJobsOptions } from "./jobs.ts";

const instance = "sockerless/1";
const id = "c".repeat(64);
const prepared = "e".repeat(64);
const tags = {
  ...{ "sockerless-instance": instance, "sockerless-container": id, "sockerless-generation": "7" },
};
const waiting = {
  containers: [
    {
      env: [
        { name: "SOCKERLESS_PREPARED", value: "shape" },
        { name: "SOCKERLESS_CONTAINER_ID", value: prepared },
      ],
    },
  ],
};

function job(name: string, more: Partial<Job> = {}): Job {
  return { location: "westeurope", tags, ...more, name } as Job;
}

const ours = [
  job(jobNameOf(id, 7n)),
  job(nextJobName(jobNameOf(id, 7n), "execution")),
  job(preparedJobName(prepared), { template: waiting }),
  job(nextJobName(preparedJobName(prepared), "execution"), {
    template: waiting,
    tags: { "sockerless-instance": instance },
  }),
];
/** By an exported template. */
const copies = [
  job("nightly"),
  job(jobNameOf("d".repeat(64), 7n)),
  job(jobNameOf(id, 8n)),
  job("prepared-by-hand", { template: waiting }),
  job("instance-only", { tags: { "sockerless-instance": instance } }),
];
const namesOf = (jobs: readonly { readonly name?: string }[]) => jobs.map(({ name = "" }) => name);

describe("jobs with our tags", () => {
  it("count as ours by the names that we give to what the tags tell, others stay", async () => {
    const there = new Map([...copies, ...ours].map((each) => [each.name ?? "", each]));
    const azure = {
      call: (_operation: string, send: (options: object) => unknown) => send({}),
      apps: {
        jobs: {
          async *listByResourceGroup() {
            yield* [...there.values()];
          },
          async beginDelete(_group: string, name: string) {
            there.delete(name);
            return { pollUntilDone: async () => undefined };
          },
        },
        jobsExecutions: {
          async *list(_group: string, name: string) {
            yield { name: `execution-of-${name}`, status: "Succeeded" };
          },
        },
      },
    };
    const { logger } = capturedLogger();
    const clock = new ManualClock();
    const jobs = new ContainerJobs({
      ...{ azure: azure as unknown as ContainerJobsOptions["azure"], clock, logger, instance },
      ...{ resourceGroup: "g", environmentId: "e", registryPassword: undefined, containerTimeMs: 1 },
      ...{
        secretOf: () => "",
        isOnBooks: () => false,
        environmentOf: () => undefined,
        isContainer: () => true,
      },
      ...{ ended() {}, failed() {} },
    });
    assert.deepEqual(
      (await jobs.listOwn()).map((task) => task.split("/")[0]),
      namesOf(ours),
    );
    const known = { hasVolume: () => false, hasNetwork: () => false, hasContainer: () => false };
    const orphans = await orphanedJobs(jobs, "sockerless/2", { ...known, hasImage: () => false });
    assert.deepEqual(
      orphans.map((orphan) => orphan.id),
      namesOf(ours),
    );
    const idle = new IdleJobs({ jobs: () => jobs, recordOf: () => undefined, clock, logger });
    await idle.sweep();
    assert.deepEqual([...there.keys()], namesOf(copies));
    await idle.close();
  });
});

describe("a job that Azure does not have", () => {
  it("is gone, unless it was made in another resource group than the configured one", async () => {
    const missing = new AzureError("JobExecution", { statusCode: 404, message: "not found" });
    const refuse = () => Promise.reject(missing);
    const environmentIn = (group: string): string =>
      `/subscriptions/s/resourceGroups/${group}/providers/Microsoft.App/managedEnvironments/e`;
    const look = async (environment: string | undefined) => {
      const azure = { call: refuse } as unknown as ContainerJobsOptions["azure"];
      const jobs = new ContainerJobs({
        ...{ azure, clock: new ManualClock(), logger: capturedLogger().logger, instance },
        ...{ resourceGroup: "g", environmentId: environmentIn("g"), registryPassword: undefined },
        ...{ secretOf: () => "", isOnBooks: () => true, isContainer: () => true, containerTimeMs: 1 },
        ...{ environmentOf: () => environment, ended() {}, failed() {} },
      });
      return (await jobs.describe(["job/execution"], AbortSignal.timeout(5_000))).missing;
    };
    for (const here of [undefined, environmentIn("g"), environmentIn("G")]) {
      assert.deepEqual(await look(here), ["job/execution"]);
    }
    await assert.rejects(
      look(environmentIn("before")),
      /the job job was made in \/subscriptions\/s\/resourcegroups\/before/,
    );
  });
});

describe("a look at a job", () => {
  it("is refused where a right is missing, not where the credentials are not taken for a while", async () => {
    for (const [statusCode, isRefused] of [
      [401, false],
      [403, true],
    ] as const) {
      const refuse = () => Promise.reject(new AzureError("JobExecution", { statusCode, message: "no" }));
      const azure = { call: refuse } as unknown as ContainerJobsOptions["azure"];
      const jobs = new ContainerJobs({
        ...{ azure, clock: new ManualClock(), logger: capturedLogger().logger, instance },
        ...{ resourceGroup: "g", environmentId: "e", registryPassword: undefined },
        ...{ secretOf: () => "", isOnBooks: () => true, isContainer: () => true, containerTimeMs: 1 },
        ...{ environmentOf: () => undefined, ended() {}, failed() {} },
      });
      const look = jobs.describe(["job/execution"], AbortSignal.timeout(5_000));
      await assert.rejects(look, (error) => isRefusal(error) === isRefused);
    }
  });
});
