import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, afterEach, describe, it } from "node:test";

import { removeRunDirectory } from "./run-directory.ts";

describe("the end of a backend", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "sockerless-run-"));
    await mkdir(join(directory, "c"));
    await mkdir(join(directory, "netns"));
    await writeFile(join(directory, "host.lock"), "");
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  it("removes the run directory", async () => {
    await removeRunDirectory(directory);
    assert.ok(!existsSync(directory));
  });

  it("keeps the files of running containers", async () => {
    await mkdir(join(directory, "c/0123456789abcdef"));
    await removeRunDirectory(directory);
    assert.deepEqual((await readdir(directory)).toSorted(), ["c", "host.lock"]);
  });

  it("leaves the run directory alone that another backend serves in", async () => {
    await writeFile(join(directory, "backend.sock"), "");
    await removeRunDirectory(directory);
    assert.deepEqual((await readdir(directory)).toSorted(), ["backend.sock", "c", "host.lock", "netns"]);
  });
});
