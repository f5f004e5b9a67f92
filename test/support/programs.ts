import { join } from "node:path";
import { buildLimitMs, type CommandResult, runCommand } from "./command.ts";
import { checkout } from "./daemon.ts";

const folder = join(checkout, "test/programs");
const goEnv = { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "local" };

/**
 * Builds one of `test/programs` and answers its path. Two files of tests never build at once: the second one finds the
 * program up to date, and Go does not write over what may be running.
 */
export async function buildProgram(name: string): Promise<string> {
  const output = join(checkout, "build/test", name);
  const args = ["build", "-trimpath", "-o", output, `./${name}`];
  const built = await runCommand("flock", ["--no-fork", folder, "go", ...args], {
    cwd: folder,
    env: goEnv,
    timeout: buildLimitMs,
  });
  if (built.code !== 0) {
    throw new Error(`test/programs/${name} does not build:\n${built.errorText}`);
  }
  return output;
}

/** Runs the Go tests of one of `test/programs`. */
export function runGoTests(name: string, env: NodeJS.ProcessEnv): Promise<CommandResult> {
  return runCommand("go", ["test", "-count=1", "-v", `./${name}`], {
    cwd: folder,
    env: { ...goEnv, ...env },
    timeout: buildLimitMs,
  });
}
