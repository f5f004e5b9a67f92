/** Drone's docker runner, by the pipeline and command of docs/ci/drone.md. Compiling it takes a minute: with SOCKERLESS_SOAK=1 alone. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { buildForeignProgram, programLimitMs } from "../support/foreign-programs.ts";
import { busyboxRootfsFile } from "../support/images.ts";
import { inSoak } from "../support/soak.ts";
import { withDaemon } from "../support/with-daemon.ts";

const setting = withDaemon();

test("Drone runs a pipeline of two steps that share a workspace, beside a service", {
  ...inSoak,
  timeout: 2 * programLimitMs,
}, async (t) => {
  const found = await buildForeignProgram("drone");
  if ("missing" in found) {
    t.skip(found.missing);
    return;
  }
  const { daemon } = setting;
  const serve = "mkdir /w; echo served >/w/index.html; httpd -f -p 80 -h /w";
  for (const [name, command] of [
    ["node:22", "true"],
    ["nginx:1", serve],
  ] as const) {
    const change = `CMD ["sh", "-c", "${command}"]`;
    await daemon.ok("import", "--change", change, await busyboxRootfsFile(), name);
  }
  const guide = await readFile(join(checkout, "docs/ci/drone.md"), "utf8");
  const pipeline = /^```yaml\n(.*?)^```$/ms.exec(guide)?.[1] ?? "";
  const command = /^drone-runner-docker exec .*$/m.exec(guide)?.[0] ?? "";
  const directory = await mkdtemp(join(tmpdir(), "skl-drone-"));
  t.after(() => rm(directory, { recursive: true }));
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
