/** Python packages from PyPI, in environments of their own outside the checkout. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

import { runCommand } from "./command.ts";

const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "sockerless");
const installLimitMs = 5 * 60_000;

/** A directory for PYTHONPATH, or why there is none: no Python with pip, no network. */
export type FoundPackages = { readonly packages: string } | { readonly missing: string };

/**
 * Installs what a file of requirements names, once for each content of it.
 *
 * @param name in the cache and in messages
 */
export async function findPipPackages(name: string, requirements: string): Promise<FoundPackages> {
  const content = await readFile(requirements);
  const packages = join(cache, name, createHash("sha256").update(content).digest("hex").slice(0, 16));
  if (existsSync(packages)) {
    return { packages };
  }
  await mkdir(join(cache, name), { recursive: true });
  const scratch = join(cache, name, `install-${process.pid}`);
  try {
    const installed = await runCommand(
      "python3",
      ["-m", "pip", "install", "--quiet", "--target", scratch, "--requirement", requirements],
      { timeout: installLimitMs },
    ).catch((error: unknown) => ({ code: -1, errorText: String(error) }));
    if (installed.code !== 0) {
      return { missing: `${name} cannot be installed: ${installed.errorText.slice(-500)}` };
    }
    await rename(scratch, packages).catch((error: unknown) => {
      if (!existsSync(packages)) {
        throw error; // else another file of tests was quicker
      }
    });
    return { packages };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** The environment in which Python has them; no bytecode is written beside programs of the checkout. */
export function pythonEnv(packages: string): NodeJS.ProcessEnv {
  return { ...process.env, PYTHONPATH: packages, PYTHONDONTWRITEBYTECODE: "1" };
}
