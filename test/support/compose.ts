/** The real docker compose, built from its Go module and kept outside the checkout: it takes minutes. */
import { createHash } from "node:crypto";
import { access, mkdir, mkdtemp, readFile, rename, rm, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";

import { runCommand } from "./command.ts";
import { checkout, type Daemon } from "./daemon.ts";

const module = join(checkout, "test/programs/compose");
const command = "github.com/docker/compose/v2/cmd";
const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "sockerless/compose");

/** Milliseconds that building it may take: hundreds of packages, one after the other. */
export const composeLimitMs = 20 * 60_000;

/** The path of a docker compose, or why there is none: no network for its modules, no Go. */
export async function findCompose(): Promise<{ readonly path: string } | { readonly missing: string }> {
  const description = await readFile(join(module, "go.mod"), "utf8");
  const version = /docker\/compose\/v2 (v\S+)/.exec(description)?.[1] ?? "";
  const digest = createHash("sha256").update(description).digest("hex").slice(0, 16);
  const path = join(cache, digest, "docker-compose");
  if (await isThere(path)) {
    return { path };
  }
  await mkdir(join(cache, digest), { recursive: true });
  const scratch = await mkdtemp(join(cache, "build-"));
  try {
    const output = join(scratch, "docker-compose");
    const stamp = `-s -w -X github.com/docker/compose/v2/internal.Version=${version}`;
    const built = await runCommand(
      "nice",
      ["go", "build", "-trimpath", "-ldflags", stamp, "-o", output, command],
      { cwd: module, env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-p=1" }, timeout: composeLimitMs },
    ).catch((error: unknown) => ({ code: -1, errorText: String(error) }));
    if (built.code !== 0) {
      return { missing: `docker compose ${version} cannot be built: ${built.errorText.slice(-500)}` };
    }
    await rename(output, path);
    return { path };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Makes `docker compose` of a daemon's clients this one. */
export async function installCompose(daemon: Daemon, path: string): Promise<void> {
  const plugins = join(daemon.clientEnv["DOCKER_CONFIG"] ?? "", "cli-plugins");
  await mkdir(plugins, { recursive: true });
  await symlink(path, join(plugins, "docker-compose"));
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
