/** A file system of this machine that does not answer, such as that of a server that is away, holds up those who name it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { withDaemon } from "../support/with-daemon.ts";

const { daemon } = withDaemon();

describe("a file system that does not answer", () => {
  let directory = "";
  let connection = -1;

  before(() => {
    directory = join(daemon.directory, "hung");
    mkdirSync(directory);
    connection = openSync("/dev/fuse", "r+"); // Nobody reads the kernel's requests.
    const options = "fd=3,rootmode=40000,user_id=0,group_id=0,allow_other";
    const { status, stderr } = spawnSync("mount", ["-i", "-t", "fuse", "-o", options, "hung", directory], {
      stdio: ["ignore", "ignore", "pipe", connection],
    });
    assert.equal(status, 0, stderr.toString());
  });

  after(() => {
    spawnSync("umount", ["--lazy", directory]);
    closeSync(connection); // Everything that waits for it fails.
  });

  test("fails what names its paths, and nobody else waits", async () => {
    await daemon.ok("run", "-d", "--name=other", "busybox", "sleep", "1000");
    const source = join(directory, "x");
    const named = [
      ["create", `--mount=type=bind,source=${source},target=/x`],
      ["run", `--device=${source}`],
      ["run", `--volume=${source}:/x:rslave`],
      ["run", `--volume=${source}:/x`],
    ].flatMap((args) => Array.from({ length: 3 }, () => daemon.docker(...args, "busybox", "true")));
    let ended = 0;
    for (const each of named) {
      void each.then(() => ended++);
    }
    assert.equal(await daemon.ok("exec", "other", "echo", "works"), "works");
    assert.equal(await daemon.ok("run", "--rm", "busybox", "echo", "works"), "works");
    assert.equal(ended, 0, "these have waited");
    for (const { code, errorText } of await Promise.all(named)) {
      assert.notEqual(code, 0);
      assert.ok(errorText.includes(`the file system of ${source} does not answer`), errorText);
    }
    await daemon.ok("container", "prune", "--force");
    await daemon.ok("rm", "--force", "other");
  });
});
