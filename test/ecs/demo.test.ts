import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { access } from "node:fs/promises";
import path from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { until } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const demo = fileURLToPath(new URL("demo.js", import.meta.url));
/** Stands for any error of the simulated AWS that nobody handles. */
const failing = "data:text/javascript,process.on('SIGUSR2',()=>{throw new Error('out of clouds')})";

test("a demonstration that fails takes what it serves with it", async () => {
  await using resources = new AsyncDisposableStack();
  const directory = scratchDirectory();
  const socket = path.join(directory, "docker.sock");
  const child = spawn(process.execPath, ["--import", failing, demo, "--host", `unix://${socket}`], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, TMPDIR: directory },
  });
  resources.defer(() => void child.kill("SIGKILL"));
  const output = Promise.all([text(child.stdout), text(child.stderr)]);
  await until(() =>
    access(socket).then(
      () => true,
      () => undefined,
    ),
  );
  child.kill("SIGUSR2");
  await once(child, "exit");
  const [, errors] = await output; // A process that lived on would hold them open.
  assert.equal(child.exitCode, 1);
  assert.match(errors, /out of clouds/);
  await assert.rejects(access(socket), { code: "ENOENT" });
});
