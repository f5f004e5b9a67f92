/** Files that only their owner may read. */
import assert from "node:assert/strict";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";

/** Asserts that nobody but its owner gets into a directory, or at a file of it: those in private directories are. */
export async function assertPrivate(directory: string): Promise<void> {
  assert.equal(((await stat(directory)).mode & 0o777).toString(8), "700", directory);
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    assert.equal((await stat(path)).mode & 0o077, 0, `${path} is its owner's alone`);
  }
}
