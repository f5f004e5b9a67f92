/** The real docker compose and buildx, as plugins of the docker CLI. */
import { mkdir, rm, symlink } from "node:fs/promises";
import { basename, join } from "node:path";

import type { Daemon } from "./daemon.ts";
import { buildForeignProgram, type ForeignProgram, programLimitMs } from "./foreign-programs.ts";

/** Milliseconds that building one may take. */
export const pluginLimitMs = programLimitMs;

/** The path of a plugin, or why there is none: no network for its modules, no Go. */
export function findPlugin(name: "buildx" | "buildx-0.12" | "compose"): Promise<ForeignProgram> {
  return buildForeignProgram(name);
}

/** Makes a plugin of a daemon's clients this one. */
export async function installPlugin(daemon: Daemon, path: string): Promise<void> {
  await addPlugin(daemon.clientEnv["DOCKER_CONFIG"] ?? "", path);
}

/** Makes a plugin of the clients whose configuration is in a directory this one. */
export async function addPlugin(config: string, path: string): Promise<void> {
  const directory = join(config, "cli-plugins");
  await mkdir(directory, { recursive: true });
  const plugin = join(directory, basename(path));
  await rm(plugin, { force: true }); // An earlier test of the same daemon may have made it.
  await symlink(path, plugin);
}
