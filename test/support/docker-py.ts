/** docker-py from PyPI. */
import { join } from "node:path";

import { type CommandResult, runCommand } from "./command.ts";
import { checkout } from "./daemon.ts";
import type { FoundPackages } from "./installed-packages.ts";
import { findPipPackages, pythonEnv } from "./pip-packages.ts";

const folder = join(checkout, "test/programs/docker-py");
const runLimitMs = 5 * 60_000;

/** The packages of docker-py, or why there are none. */
export async function findDockerPy(): Promise<FoundPackages> {
  return await findPipPackages("docker-py", join(folder, "requirements.txt"));
}

/** Runs one of `test/programs/docker-py`. */
export function runDockerPy(packages: string, program: string, ...args: string[]): Promise<CommandResult> {
  return runCommand("python3", [join(folder, program), ...args], {
    env: pythonEnv(packages),
    timeout: runLimitMs,
  });
}
