/** A backup of a daemon that runs, restored and served; and what `sockerless check` refuses meanwhile. */
import assert from "node:assert/strict";
import { rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { type CommandResult, runCommand } from "../support/command.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { duringTests } from "../support/during-tests.ts";

describe("a backup", () => {
  const daemon = duringTests(() => Daemon.startWithBusybox());
  let file: string;

  before(async () => {
    file = join(daemon.directory, "backup.tar");
    await daemon.ok("volume", "create", "data");
  });

  const sockerless = (...args: string[]): Promise<CommandResult> =>
    runCommand(join(checkout, "bin/sockerless"), [...args, "--state-dir", daemon.stateDir]);

  it("is made while the daemon and a container run", async () => {
    const script = "echo kept > /file; echo kept > /data/file; echo said; exec sleep 1000";
    await daemon.ok("run", "--detach", "--name=keep", "--volume=data:/data", "busybox", "sh", "-c", script);
    await daemon.ok("exec", "keep", "sh", "-c", "until [ -e /data/file ]; do usleep 10000; done");
    const made = await sockerless("backup", file, "--volumes");
    assert.deepEqual([made.code, made.errorText], [0, ""]);
    assert.equal((await stat(file)).mode & 0o777, 0o600, "environments of containers are in it");
  });

  it("is not mistaken for the moment to check or restore", async () => {
    const checked = await sockerless("check", "--repair");
    assert.match(checked.errorText, /in use by another sockerless backend/);
    const restored = await sockerless("restore", file);
    assert.match(restored.errorText, /is not empty/);
    assert.deepEqual([checked.code, restored.code], [1, 1]);
  });

  it("brings back containers with their files and logs, images and volumes", async () => {
    await daemon.ok("rm", "--force", "keep");
    await daemon.ok("volume", "rm", "data");
    await daemon.shutDown();
    await rm(daemon.stateDir, { recursive: true });
    const restored = await sockerless("restore", file);
    assert.deepEqual([restored.code, restored.errorText], [0, ""]);
    const checked = await sockerless("check");
    assert.equal(checked.text, "no damage found");
    await daemon.launch();
    assert.equal(await daemon.ok("logs", "keep"), "said");
    await daemon.ok("start", "keep");
    assert.equal(await daemon.ok("exec", "keep", "cat", "/file", "/data/file"), "kept\nkept");
    assert.equal(await daemon.ok("run", "--rm", "busybox", "echo", "runs"), "runs");
  });

  it("is refused where it is none", async () => {
    const other = join(daemon.directory, "other.tar");
    await writeFile(join(daemon.directory, "stray"), "");
    await runCommand("tar", ["--create", "--file", other, "-C", daemon.directory, "stray"]);
    const elsewhere = join(daemon.directory, "elsewhere");
    const refused = await runCommand(join(checkout, "bin/sockerless"), [
      "restore",
      other,
      "--state-dir",
      elsewhere,
    ]);
    assert.equal(refused.code, 1);
    assert.match(refused.errorText, /is no backup of sockerless/);
  });
});
