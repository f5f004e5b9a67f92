import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, it } from "node:test";

import { removeRunDirectory } from "./run-directory.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

describe("the end of a backend", () => {
  let directory: string;
  beforeEach(async () => {
    directory = scratchDirectory();
    await mkdir(join(directory, "c"));
    await mkdir(join(directory, "netns"));
    await writeFile(join(directory, "host.lock"), "");
  });
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
