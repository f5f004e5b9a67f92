/** Earlier versions of sockerless, built once from the history of the checkout and kept outside of it. */
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

import { buildLimitMs, runFetching } from "./command.ts";
import { checkout } from "./daemon.ts";

const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "sockerless", "releases");

/**
 * The checkout of a commit, built.
 *
 * @throws if the history lacks it, or it does not build
 */
export async function earlierVersion(commit: string): Promise<string> {
  const kept = join(cache, commit);
  if (!existsSync(kept)) {
    const begun = `${kept}.${process.pid}`;
    await mkdir(dirname(begun), { recursive: true });
    try {
      await succeed("git", ["clone", "--quiet", "--no-checkout", checkout, begun], checkout);
      await succeed("git", ["checkout", "--quiet", commit], begun);
      await succeed("npm", ["run", "build"], begun);
      await rename(begun, kept);
    } finally {
      await rm(begun, { recursive: true, force: true });
    }
  }
  return kept;
}

async function succeed(program: string, args: readonly string[], cwd: string): Promise<void> {
  const result = await runFetching(program, args, { cwd, timeout: 3 * buildLimitMs });
  if (result.code !== 0) {
    throw new Error(
      `${program} ${args.join(" ")} ended with ${result.code}: ${result.text}${result.errorText}`,
    );
  }
}
