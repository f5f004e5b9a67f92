/** Drone's docker runner, by the pipeline and command of docs/ci/drone.md. Compiling it takes a minute: with SOCKERLESS_SOAK=1 alone. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { runCommand } from "../support/command.ts";
import { buildForeignProgram, programLimitMs } from "../support/foreign-programs.ts";
import { importAs, readRecipe, servingCommand } from "../support/recipes.ts";
import { inSoak } from "../support/soak.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon } = withDaemon();

test("Drone runs a pipeline of two steps that share a workspace, beside a service", {
  ...inSoak,
  timeout: 2 * programLimitMs,
}, async (t) => {
  const found = await buildForeignProgram("drone");
  if ("missing" in found) {
    t.skip(found.missing);
    return;
  }
  await importAs(daemon, "node:22", "true");
  await importAs(daemon, "nginx:1", servingCommand);
  const guide = await readRecipe("drone");
  const pipeline = /^```yaml\n(.*?)^```$/ms.exec(guide)?.[1] ?? "";
  const command = /^drone-runner-docker exec .*$/m.exec(guide)?.[0] ?? "";
  const directory = scratchDirectory();
  await writeFile(join(directory, ".drone.yml"), pipeline);
  const volumes = await daemon.ok("volume", "ls", "--quiet");
  const { code, text, errorText } = await runCommand("sh", ["-c", command], {
    env: { ...daemon.clientEnv, PATH: `${dirname(found.path)}:${process.env["PATH"]}` },
    cwd: directory,
    timeout: 600_000,
  });
  assert.equal(code, 0, `${command}\n${text}\n${errorText}`);
  assert.match(text, /\bserved$/);
  assert.equal(await daemon.ok("ps", "--all", "--quiet"), "");
  assert.equal(await daemon.ok("network", "ls", "--quiet", "--filter", "type=custom"), "");
  assert.equal(await daemon.ok("volume", "ls", "--quiet"), volumes);
});
