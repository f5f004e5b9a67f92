/** GitHub's runner as a container, by docs/ci/github.md: a stand-in for its program plays a job's hooks at the container's Docker socket. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempDisposable, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { runCommand } from "./command.ts";
import type { Daemon } from "./daemon.ts";
import { busyboxImage } from "./images.ts";
import { commandsOf, readRecipe, servingCommand } from "./recipes.ts";
import type { TestRegistry } from "./registry.ts";
import { tarOf } from "./tar.ts";
import { writeFiles } from "./write-files.ts";

/** A step of a job: it reaches the service, and leaves a file for the one after it. */
export const jobStep = 'echo "$GITHUB_JOB in $(pwd)"; wget -qO- http://web/; echo greeted > made\n';

/** Pushes small images under the names of the job's images. */
export async function pushJobImages(registry: TestRegistry): Promise<void> {
  await registry.push("node", "22", await busyboxImage());
  await registry.push("nginx", "1", await busyboxImage({ Cmd: ["sh", "-c", servingCommand] }));
}

/**
 * Runs the page's commands of the runner's container.
 *
 * @param socket path of the socket that is bound
 * @returns output of the job
 */
export async function runHooksInside(
  daemon: Daemon,
  registry: TestRegistry,
  socket = "/var/run/docker.sock",
): Promise<string> {
  const guide = await readRecipe("github");
  const docker = execFileSync("sh", ["-c", "command -v docker"], { encoding: "utf8" }).trim();
  const [, before, after, end] = commandsOf(guide, "before each step", registry.host).split(/^# .*\n/m);
  const hooks = commandsOf(guide, "prepare_job", registry.host).split(/(?=^# (?:run|cleanup)_)/m);
  const run = `#!/bin/sh
set -e
test "$*" = "--jitconfig signed"
mkdir -p _work/app/app _work/_temp
echo '${jobStep}' > _work/_temp/step.sh
export GITHUB_JOB=test
${hooks.slice(0, -1).join(before)}${after}
cat _work/app/app/made
${hooks.at(-1)}${end}`;
  const files = await tarOf([
    { name: "usr/bin/docker", mode: 0o755, content: await readFile(docker) },
    { name: "home/runner/run.sh", mode: 0o755, content: Buffer.from(run) },
  ]);
  const busybox = await busyboxImage({ WorkingDir: "/home/runner" });
  await registry.push("actions/actions-runner", "latest", { ...busybox, layers: [...busybox.layers, files] });
  await using directory = await mkdtempDisposable(join(tmpdir(), "skl-runner-"));
  const dockerfile = /^```dockerfile\n(.*?)^```$/ms.exec(guide)?.[1] ?? "";
  await writeFiles(directory.path, {
    Dockerfile: dockerfile.replace("ghcr.io", registry.host),
    "hooks/index.js": "",
    "job.env": "JITCONFIG=signed\n",
  });
  const commands = commandsOf(guide, "the runner's container", registry.host)
    .replaceAll("registry.example.com", registry.host)
    .replace("/var/run/docker.sock:", `${socket}:`);
  const { code, text, errorText } = await runCommand("sh", ["-ec", commands], {
    env: daemon.clientEnv,
    cwd: directory.path,
  });
  assert.equal(code, 0, `${text}\n${errorText}`);
  return text;
}
