/** The real docker compose and buildx, built from their Go modules and kept outside the checkout: it takes minutes. */
import { createHash } from "node:crypto";
import { access, mkdir, mkdtemp, readFile, rename, rm, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, join } from "node:path";

import { runCommand } from "./command.ts";
import { checkout, type Daemon } from "./daemon.ts";

/** Plugins of the docker CLI by the name of their command. */
const plugins = {
  buildx: {
    package: "github.com/docker/buildx/cmd/buildx",
    version: /docker\/buildx (v\S+)/,
    stamp: "buildx/version",
  },
  compose: {
    package: "github.com/docker/compose/v2/cmd",
    version: /docker\/compose\/v2 (v\S+)/,
    stamp: "compose/v2/internal",
  },
} as const;

const caches = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "sockerless");

/** Milliseconds that building one may take: hundreds of packages, one after the other. */
export const pluginLimitMs = 20 * 60_000;

/** The path of a plugin, or why there is none: no network for its modules, no Go. */
export async function findPlugin(
  name: keyof typeof plugins,
): Promise<{ readonly path: string } | { readonly missing: string }> {
  const plugin = plugins[name];
  const module = join(checkout, "test/programs", name);
  const cache = join(caches, name);
  const description = await readFile(join(module, "go.mod"), "utf8");
  const version = plugin.version.exec(description)?.[1] ?? "";
  const digest = createHash("sha256").update(description).digest("hex").slice(0, 16);
  const path = join(cache, digest, `docker-${name}`);
  if (await isThere(path)) {
    return { path };
  }
  await mkdir(join(cache, digest), { recursive: true });
  const scratch = await mkdtemp(join(cache, "build-"));
  try {
    const output = join(scratch, `docker-${name}`);
    const stamp = `-s -w -X github.com/docker/${plugin.stamp}.Version=${version}`;
    const built = await runCommand(
      "nice",
      ["go", "build", "-trimpath", "-ldflags", stamp, "-o", output, plugin.package],
      { cwd: module, env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-p=1" }, timeout: pluginLimitMs },
    ).catch((error: unknown) => ({ code: -1, errorText: String(error) }));
    if (built.code !== 0) {
      return { missing: `docker ${name} ${version} cannot be built: ${built.errorText.slice(-500)}` };
    }
    await rename(output, path);
    return { path };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Makes a plugin of a daemon's clients this one. */
export async function installPlugin(daemon: Daemon, path: string): Promise<void> {
  const directory = join(daemon.clientEnv["DOCKER_CONFIG"] ?? "", "cli-plugins");
  await mkdir(directory, { recursive: true });
  await symlink(path, join(directory, basename(path)));
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
