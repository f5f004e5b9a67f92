/** Removes an instance's run directory at a clean end, except what running containers need. */
import { readdir, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";

/** Directories of the host process; kept while they hold files of running containers. */
const hostDirectories: ReadonlySet<string> = new Set(["c", "netns", "runc", "stored", "volumes"]);

/** The host process's lock file. */
const lockFile = "host.lock";

/**
 * Removes the directory unless something in it is in use: a socket there belongs to another live backend with the same
 * directory. To be called by the only user of the state, after the host process has ended.
 */
export async function removeRunDirectory(directory: string): Promise<void> {
  const names = await readdir(directory);
  const ofHost = names.filter((name) => hostDirectories.has(name));
  if (names.some((name) => name !== lockFile && !ofHost.includes(name))) {
    return;
  }
  await Promise.all(ofHost.map((name) => removeIfEmpty(join(directory, name))));
  const left = await readdir(directory);
  if (left.every((name) => name === lockFile)) {
    await Promise.all(left.map((name) => unlink(join(directory, name))));
    await removeIfEmpty(directory);
  }
}

async function removeIfEmpty(directory: string): Promise<void> {
  await rmdir(directory).catch(() => {}); // Keeps a directory that is not empty.
}
