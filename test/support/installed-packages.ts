/** Packages of other languages' registries, installed outside the checkout, once for each content of what names them. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

import { type CommandResult, runCommand } from "./command.ts";

const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "sockerless");
const installLimitMs = 5 * 60_000;

/** Directory of packages, or why there is none: no program that installs them, no network. */
export type FoundPackages = { readonly packages: string } | { readonly missing: string };

/**
 * Installs packages unless they are there.
 *
 * @param name in the cache and in messages
 * @param description the file that names them and their versions
 * @param command answers what installs them into a directory that is there and empty
 */
export async function installPackages(
  name: string,
  description: string,
  command: (directory: string) => readonly [program: string, ...args: string[]],
): Promise<FoundPackages> {
  const content = await readFile(description);
  const packages = join(cache, name, createHash("sha256").update(content).digest("hex").slice(0, 16));
  if (existsSync(packages)) {
    return { packages };
  }
  const scratch = join(cache, name, `install-${process.pid}`);
  await mkdir(scratch, { recursive: true });
  try {
    const [program, ...args] = command(scratch);
    const installed: Pick<CommandResult, "code" | "errorText"> = await runCommand(program, args, {
      timeout: installLimitMs,
    }).catch((error: unknown) => ({ code: -1, errorText: String(error) }));
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
