/**
 * GitLab Runner's own program, by the configuration and the jobs of docs/ci/gitlab.md. Compiling it takes minutes: with
 * SOCKERLESS_SOAK=1 alone.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";

import { gitlabImages, helperImage, loadImages } from "../conformance/gitlab/images.ts";
import type { Job } from "../conformance/gitlab/jobs.ts";
import { Recipe } from "../conformance/gitlab/recipe.ts";
import { gitlabRunner } from "../conformance/gitlab/runner.ts";
import { RunnerSession } from "../conformance/gitlab/runner-session.ts";
import { duringTests } from "../support/during-tests.ts";
import { programLimitMs } from "../support/foreign-programs.ts";
import { importAs, servingCommand } from "../support/recipes.ts";
import { inSoak } from "../support/soak.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, host } = withDaemon();

describe("GitLab Runner by its recipe", inSoak, () => {
  let jobs: readonly Job[];
  const session = duringTests(
    async () => {
      const recipe = await Recipe.read();
      jobs = [
        recipe.job("build", ["Created cache", "Uploading artifacts"]),
        recipe.job("test", ["Downloading artifacts", "first\n", "served\n", "Job succeeded"]),
        recipe.job("build", ["Successfully extracted cache"], "build once more"),
      ];
      const programs = await gitlabRunner();
      await loadImages(daemon, await gitlabImages(programs));
      await daemon.ok("tag", helperImage, recipe.helperImage);
      await daemon.ok("tag", "debian:job", "node:22");
      await importAs(daemon, "nginx:1", servingCommand);
      return await RunnerSession.start({
        ...{ programs, host: host(), daemon: daemon.host, jobs },
        configuration: (url) => recipe.configuration(url, daemon.host),
        log: join(daemon.directory, "runner.log"),
      });
    },
    { timeout: programLimitMs },
  );

  test("it runs a job with a cache and artifacts, one with a service, and finds the cache again", async (t) => {
    for (const job of jobs) {
      const { complaints, log, seconds } = await session.result(job);
      assert.deepEqual(complaints, [], log);
      t.diagnostic(`${job.name}: ${seconds?.toFixed(0)} s`);
    }
    assert.equal(await daemon.ok("ps", "--all", "--quiet"), "");
    const until = ["--since", "0", "--until", `${Date.now() / 1000}`];
    const filters = ["--filter", "type=container", "--filter", "event=create"];
    const format = ["--format", "{{.Actor.Attributes.name}}"];
    const made = await daemon.ok("events", ...until, ...filters, ...format);
    assert.deepEqual(
      made.split("\n").map((name) => name.replace(/^runner-.*-concurrent-0-[0-9a-f]+-/, "")),
      ["predefined", "build", "nginx-0", "predefined", "build", "predefined", "build"],
    );
  });
});
