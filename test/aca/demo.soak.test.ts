import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { access } from "node:fs/promises";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { runCommand } from "../support/command.ts";
import { untilTrue } from "../support/until.ts";
import { leftMachine } from "../support/within-machine.ts";
import { scratchDirectory } from "../support/scratch.ts";

const demo = fileURLToPath(new URL("demo.js", import.meta.url));

test("a demonstration runs containers as jobs, and leaves nothing", async () => {
  await using resources = new AsyncDisposableStack();
  const directory = scratchDirectory();
  const socket = path.join(directory, "docker.sock");
  const child = spawn(process.execPath, [demo, "--host", `unix://${socket}`], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, TMPDIR: directory },
  });
  resources.defer(() => void child.kill("SIGKILL"));
  let told = "";
  for (const output of [child.stdout, child.stderr]) {
    output.on("data", (chunk) => {
      told += String(chunk);
    });
  }
  await untilTrue(() =>
    access(socket).then(
      () => true,
      () => false,
    ),
  );
  const image = /an image to begin with: (\S+)/.exec(told)?.[1] ?? assert.fail(told);
  const env = { ...process.env, DOCKER_HOST: `unix://${socket}` };
  const ran = await runCommand("docker", ["run", "--rm", image, "echo", "from a job"], { env });
  assert.equal(ran.text, "from a job", ran.errorText);
  child.kill("SIGTERM");
  await once(child, "close"); // A process that lived on would hold its output open.
  assert.equal(child.exitCode, 0);
  assert.doesNotMatch(told, new RegExp(leftMachine), "nothing leaves this machine");
  await assert.rejects(access(socket), { code: "ENOENT" });
});
