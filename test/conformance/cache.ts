/** Place of what conformance builds, outside the checkout. */
import { createHash, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** The directory of this user's cache. */
export const cache = join(
  process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"),
  "sockerless/conformance",
);

/** A short name for content: what is built from equal input is built once. */
export function fingerprint(...parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) {
    hash.update(part).update("\0");
  }
  return hash.digest("hex").slice(0, 16);
}

/**
 * Makes a file or directory unless it is there; one that is half made is never seen.
 *
 * @param path below {@link cache}
 * @param make writes it to the path that it is given, on the same file system
 * @returns where it is
 */
export async function cached(path: string, make: (temporary: string) => Promise<void>): Promise<string> {
  const kept = join(cache, path);
  if (!existsSync(kept)) {
    const temporary = `${kept}.${randomUUID()}`;
    await mkdir(dirname(kept), { recursive: true });
    try {
      await make(temporary);
      await rename(temporary, kept);
    } catch (error) {
      // Another process may have been quicker.
      if (!existsSync(kept)) {
        throw error;
      }
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
  }
  return kept;
}
