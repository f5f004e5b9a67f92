/**
 * A state directory as version 0.1.0 left it, from before volumes had drivers: a volume with a label and a file, and one of
 * no name. Records tell where it lay, so it is opened there.
 */
import assert from "node:assert/strict";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { runCommand } from "../support/command.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";

const directory = "/tmp/skl-last-release";
const archive = join(checkout, "test/fixtures/state/0.1.0-volumes.tar.gz");

test("volumes that were made before there were drivers go on as those of local", async (t) => {
  await mkdir(directory); // Nobody else's.
  t.after(() => rm(directory, { recursive: true }));
  const stateDir = join(directory, "state");
  await mkdir(stateDir);
  const { code, errorText } = await runCommand("tar", ["-C", stateDir, "-xzf", archive]);
  assert.equal(code, 0, errorText);
  await using daemon = await Daemon.start({ stateDir });
  const [told] = JSON.parse(await daemon.ok("volume", "inspect", "old")) as [Record<string, unknown>];
  assert.deepEqual(
    [told["Driver"], told["Labels"], told["Mountpoint"]],
    ["local", { a: "b" }, join(stateDir, "volumes/old/_data")],
  );
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  for (const name of ["one", "two"]) {
    const ran = await daemon.ok(
      "run",
      "--name",
      name,
      "--volume",
      "old:/data",
      "busybox",
      "cat",
      "/data/file",
    );
    assert.equal(ran, "kept");
  }
  await daemon.ok("rm", "one", "two");
  assert.match(await daemon.ok("volume", "prune", "--force"), /^[0-9a-f]{64}$/m);
  assert.match(await daemon.ok("volume", "prune", "--all", "--force"), /^old$/m);
});
