import assert from "node:assert/strict";
import { rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";

import { makeDirectories } from "./make-directories.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

describe("making directories", () => {
  const directory = scratchDirectory();

  it("makes those above, with the mode, also for several who make it at a time", async () => {
    const path = join(directory, "a/b/c/d/e");
    for (let round = 0; round < 50; round++) {
      await rm(join(directory, "a"), { recursive: true, force: true });
      const makers = [0, 1, 2, 3].map(async (maker) => {
        for (let turn = 0; turn < maker * (round % 7); turn++) {
          await setImmediate(); // So that each meets what another has made in part.
        }
        await makeDirectories(path, 0o700);
      });
      await Promise.all(makers);
    }
    assert.equal((await stat(join(directory, "a/b"))).mode & 0o777, 0o700);
    await makeDirectories(path);
    assert.equal((await stat(path)).mode & 0o777, 0o700);
  });

  it("fails if a directory allows no new ones, and does not retry forever", {
    timeout: 120_000,
  }, async () => {
    await assert.rejects(makeDirectories("/proc/sockerless/state"), {
      kind: "not-found",
      message: /cannot make directory \/proc\/sockerless\/state: ENOENT/,
    });
  });

  it("fails if a file or a dangling link is in the way", async () => {
    const file = join(directory, "file");
    await writeFile(file, "");
    await assert.rejects(makeDirectories(file), /EEXIST/);
    await assert.rejects(makeDirectories(join(file, "below")), /ENOTDIR/);
    await symlink(join(directory, "nowhere"), join(directory, "link"));
    await assert.rejects(makeDirectories(join(directory, "link/below")), /ENOENT/);
  });
});
