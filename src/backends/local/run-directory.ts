/** Removes the run directory of an instance at a clean end, but for what running containers need. */
import { readdir, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";

/** Directories of the host process; those with files of running containers are kept. */
const hostDirectories: ReadonlySet<string> = new Set(["c", "netns", "runc", "stored", "volumes"]);

/** The lock that the host process holds while it lives. */
const lockFile = "host.lock";

/**
 * Removes the directory unless something in it is needed: a socket in it is of another backend, which was given the same
 * directory and lives. Called by the only user of the state, without a host process.
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
  await rmdir(directory).catch(() => {}); // A directory that is not empty stays.
}
