/**
 * GitHub's runner, and container hooks of one, by the commands of docs/ci/github.md. Those of the runner are played on this
 * machine, whose directories they mount.
 */
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { onlyOn } from "../support/backend-under-test.ts";
import { compileBuilder } from "../support/builds.ts";
import { buildLimitMs, runCommand } from "../support/command.ts";
import { duringTests } from "../support/during-tests.ts";
import { pushJobImages, runHooksInside, jobStep } from "../support/github-runner.ts";
import { commandsOf, readRecipe } from "../support/recipes.ts";
import { TestRegistry } from "../support/registry.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { writeFiles } from "../support/write-files.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon } = withDaemon();

describe("GitHub's runner", () => {
  let guide: string;
  const registry = duringTests(() => TestRegistry.start());
  const directory = scratchDirectory();

  before(compileBuilder, { timeout: buildLimitMs });
  before(async () => {
    guide = await readRecipe("github");
    await pushJobImages(registry);
  });

  /** Runs the guide's block that begins so, with the images of the registry. @returns its output */
  async function play(beginning: string): Promise<string> {
    const commands = commandsOf(guide, beginning, registry.host);
    const { code, text, errorText } = await runCommand("sh", ["-ec", commands], {
      env: { ...daemon.clientEnv, RUNNER: directory, GITHUB_JOB: "test" },
    });
    assert.equal(code, 0, `${text}\n${errorText}`);
    assert.equal(await daemon.ok("ps", "--all", "--quiet"), "");
    assert.equal(await daemon.ok("network", "ls", "--quiet", "--filter", "label=f00f1e"), "");
    return text;
  }

  test("runs a job with a service and an action of an image", {
    skip: onlyOn("local", "they mount the runner's own directories"),
  }, async () => {
    for (const made of ["_work/app/app", "_work/_actions", "_work/_tool", "_work/_temp/_github_home"]) {
      await mkdir(join(directory, made), { recursive: true });
    }
    await mkdir(join(directory, "_work/_temp/_github_workflow"));
    await writeFiles(directory, { "externals/node": "", "_work/_temp/step.sh": jobStep });
    const output = await play("the runner");
    assert.match(output, /^[0-9a-f]{64} Up /m);
    assert.match(output, /^PATH=\/usr\/local\/sbin:/m);
    assert.match(output, /^80\/tcp -> 0\.0\.0\.0:\d+$/m);
    assert.match(output, /^healthy\ntest in \/__w\/app\/app\nserved\ngreeted$/m);
  });

  test("with container hooks runs a job with a service and an action of an image", async () => {
    const runner = ["run", "--rm", "--volume", "github-work:/home/runner/_work", "busybox", "sh", "-ec"];
    const folders = 'cd /home/runner/_work; mkdir -p app/app _temp; echo "$0" > _temp/step.sh';
    await daemon.ok(...runner, folders, jobStep);
    const output = await play("prepare_job");
    assert.match(output, /^not Alpine\n80\/tcp -> 0\.0\.0\.0:\d+$/m);
    assert.match(output, /^healthy\ntest in \/__w\/app\/app\nserved\ngreeted$/m);
    await daemon.ok("volume", "rm", "github-work");
  });

  test("as a container executes the hooks at the daemon's socket", {
    skip: onlyOn("local", "a task has the socket by inner_socket"),
  }, async () => {
    const output = await runHooksInside(daemon, registry, daemon.socket);
    assert.match(output, /^healthy\ntest in \/__w\/app\/app\nserved\ngreeted\ngreeted$/m);
  });
});
