/** GitLab Runner's jobs on a simulated cloud. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import type { Daemon } from "../../support/daemon.ts";
import { programLimitMs } from "../../support/foreign-programs.ts";
import { gitlabImages, loadImages } from "./images.ts";
import { alike, jobs } from "./jobs.ts";
import { gitlabRunner } from "./runner.ts";
import { RunnerSession, type SessionOptions } from "./runner-session.ts";

/** A daemon, and the address at which its containers reach this machine. */
export interface Cloud {
  readonly daemon: Daemon;
  readonly host: string;
  /** Processors of each container; unless said, 0.5. */
  readonly cpus?: string;
}

/**
 * Tests that each job that a cloud can run comes to what it comes to on dockerd.
 *
 * @param expected complaints about a job that the cloud's volumes cause
 */
export function testJobs(
  startCloud: (resources: AsyncDisposableStack) => Promise<Cloud>,
  expected: readonly string[] = [],
): void {
  const resources = new AsyncDisposableStack();
  let session: RunnerSession;
  let startSession: (options: Pick<SessionOptions, "jobs" | "atOnce" | "settings">) => Promise<RunnerSession>;

  describe("a job of GitLab Runner", () => {
    before(
      async () => {
        const programs = await gitlabRunner();
        const images = await gitlabImages(programs);
        const { daemon, host, cpus = "0.5" } = await startCloud(resources);
        await loadImages(daemon, images);
        startSession = async (options) =>
          resources.use(
            await RunnerSession.start({
              ...{ programs, host, daemon: `unix://${daemon.socket}` },
              log: join(daemon.directory, "runner.log"),
              ...options,
            }),
          );
        session = await startSession({
          jobs: jobs.filter(({ onMachine }) => onMachine === undefined),
          settings: () => ['volumes = ["/cache", "named:/named"]', 'memory = "1g"', `cpus = "${cpus}"`],
        });
      },
      { timeout: programLimitMs },
    );
    after(() => resources.disposeAsync());

    for (const job of jobs) {
      test(job.name, { skip: job.onMachine ?? false }, async () => {
        const { complaints, log } = await session.result(job);
        assert.deepEqual(
          complaints.filter((complaint) => !expected.includes(complaint)),
          [],
          log,
        );
      });
    }

    test("ten at once", { timeout: programLimitMs }, async () => {
      const ten = alike(10);
      const small = ['memory = "256m"', 'cpus = "0.05"', 'service_memory = "256m"', 'service_cpus = "0.05"'];
      const together = await startSession({ jobs: ten, atOnce: 10, settings: () => small });
      for (const { complaints, log } of await Promise.all(ten.map((job) => together.result(job)))) {
        assert.deepEqual(complaints, [], log);
      }
    });
  });
}
