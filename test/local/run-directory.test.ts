/** The run directory after a clean end holds what containers that run on need, and nothing else. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";

import { Daemon } from "../support/daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";

test("the run directory goes with the end, unless containers run on", async (context) => {
  const daemon = await Daemon.start();
  context.after(() => daemon.stop());
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  await daemon.ok("run", "busybox", "true");
  await daemon.shutDown();
  assert.equal(existsSync(daemon.runDir), false);

  await daemon.launch();
  await daemon.ok("run", "-d", "--name", "sleeper", "busybox", "sleep", "1000");
  await daemon.shutDown();
  assert.equal(existsSync(daemon.runDir), true);

  await daemon.launch();
  assert.equal(await daemon.ok("exec", "sleeper", "echo", "there"), "there");
  await daemon.ok("rm", "-f", "sleeper");
  await daemon.shutDown();
  assert.equal(existsSync(daemon.runDir), false);
  await daemon.launch();
});
