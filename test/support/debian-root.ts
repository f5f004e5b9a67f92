/** Roots of a bare Debian 12, made by debootstrap once and kept outside the checkout. */
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

import { runCommand, runFetching } from "./command.ts";

const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "sockerless");
const installLimitMs = 20 * 60_000;

/**
 * Copies a root that has the packages named, and those that they need.
 *
 * @param target must not exist
 * @throws if there is no debootstrap, or it fails
 */
export async function copyDebianRoot(target: string, packages: readonly string[]): Promise<void> {
  const kept = join(cache, "debian", packages.join("+"));
  if (!existsSync(kept)) {
    const begun = `${kept}.${process.pid}`;
    await mkdir(begun, { recursive: true });
    const made = await runFetching(
      "debootstrap",
      ["--variant=minbase", `--include=${packages.join(",")}`, "bookworm", begun],
      { timeout: installLimitMs },
    );
    if (made.code !== 0) {
      await rm(begun, { recursive: true, force: true });
      throw new Error(`debootstrap: ${made.text.slice(-1000)}${made.errorText}`);
    }
    await rename(begun, kept);
  }
  // It has device files, which Node's own copying refuses.
  const copied = await runCommand("cp", ["--archive", kept, target]);
  if (copied.code !== 0) {
    throw new Error(`cp: ${copied.errorText}`);
  }
}
