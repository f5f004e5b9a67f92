/** Buildkite's docker plugin, by the commands of docs/ci/buildkite.md, on a terminal. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { onlyOn } from "../support/backend-under-test.ts";
import { duringTests } from "../support/during-tests.ts";
import { busyboxImage } from "../support/images.ts";
import { commandsOf, readRecipe } from "../support/recipes.ts";
import { TestRegistry } from "../support/registry.ts";
import { Terminal } from "../support/terminal.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { writeFiles } from "../support/write-files.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon } = withDaemon();

describe("a step of Buildkite's docker plugin", () => {
  let guide: string;
  const registry = duringTests(() => TestRegistry.start());
  const directory = scratchDirectory();

  before(async () => {
    guide = await readRecipe("buildkite");
    await writeFiles(directory, { "README.md": "read by the step\n" });
    await registry.push("node", "22", await busyboxImage());
  });

  /** Runs the guide's block that begins so, with the image of the registry. */
  async function play(beginning: string): Promise<void> {
    const commands = `cd ${directory}\n${commandsOf(guide, beginning, registry.host)}`;
    const variables = { BUILDKITE_JOB_ID: "0190-job", BUILDKITE_BRANCH: "main" };
    const terminal = await Terminal.run("sh", ["-ec", commands], { ...daemon.clientEnv, ...variables });
    await terminal.see("read by the step\r\n");
    assert.equal(await terminal.exitCode(), 0, terminal.screen);
    assert.equal(await daemon.ok("ps", "--all", "--quiet"), "");
  }

  test("has the checkout", {
    skip: onlyOn("local", "a task has no directory of this machine"),
  }, async () => {
    await play("a step");
    await daemon.ok("network", "rm", "ci");
  });

  test("has the checkout in the agent's volume", async () => {
    await daemon.ok("pull", "--quiet", `${registry.host}/node:22`);
    const fill = "mkdir -p agent-1/acme/app; echo read by the step > agent-1/acme/app/README.md";
    const place = ["--volume", "builds:/buildkite/builds", "--workdir", "/buildkite/builds"];
    await daemon.ok("run", "--rm", ...place, "busybox", "sh", "-ec", fill);
    await play("a step with a volume");
    await daemon.ok("volume", "rm", "builds");
  });
});
