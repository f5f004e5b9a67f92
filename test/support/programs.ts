import { join } from "node:path";
import { buildLimitMs, type CommandOptions, type CommandResult, runCommand } from "./command.ts";
import { checkout } from "./daemon.ts";

const programs = "test/programs";
const goEnv = { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "local" };

/** The place of a program, and how its build ends. */
interface BuildOptions extends Pick<CommandOptions, "signal"> {
  /** The Go module that it is a folder of, from the checkout; unless said, `test/programs`. */
  readonly module?: string;
}

/**
 * Builds one of `test/programs`, or of another module, and answers its path. Two files of tests never build at once: the
 * second one finds the program up to date, and Go does not write over what may be running.
 *
 * @throws the signal's reason, where it has aborted before
 */
export async function buildProgram(
  name: string,
  { module = programs, signal }: BuildOptions = {},
): Promise<string> {
  const folder = join(checkout, module);
  const output = join(checkout, "build/test", name);
  const args = ["build", "-trimpath", "-o", output, `./${name}`];
  const built = await runCommand("flock", ["--no-fork", folder, "go", ...args], {
    cwd: folder,
    env: goEnv,
    timeout: buildLimitMs,
    ...(signal !== undefined && { signal }),
  });
  if (built.code !== 0) {
    throw new Error(`${module}/${name} does not build:\n${built.errorText}`);
  }
  return output;
}

/** Runs the Go tests of one of `test/programs`. */
export function runGoTests(name: string, env: NodeJS.ProcessEnv): Promise<CommandResult> {
  return runCommand("go", ["test", "-count=1", "-v", `./${name}`], {
    cwd: join(checkout, programs),
    env: { ...goEnv, ...env },
    timeout: buildLimitMs,
  });
}
