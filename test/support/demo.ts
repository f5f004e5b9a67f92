/** A demonstration: sockerless on a simulated cloud that this process is, for anyone without an account. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

import { checkout } from "../../src/common/built-programs.ts";
import { withinMachine } from "./within-machine.ts";

const program = join(checkout, "dist/bundle/cli/main.js");

/**
 * Runs commands of sockerless one after another, each to its end; the first that fails is the last.
 *
 * @param cloud its name, for messages
 * @param env credentials of the cloud
 * @returns the exit code
 */
export async function demonstrate(
  cloud: string,
  env: Readonly<Record<string, string>>,
  commands: readonly (readonly string[])[],
): Promise<number> {
  for (const args of commands) {
    const code = await run(cloud, env, args);
    if (code !== 0) {
      return code;
    }
  }
  return 0;
}

async function run(
  cloud: string,
  env: Readonly<Record<string, string>>,
  args: readonly string[],
): Promise<number> {
  const command = [process.execPath, "--disable-sigusr1", "--enable-source-maps", program, ...args];
  // Without this process there is no cloud: the child is to end with it, however it ends.
  const child = spawn("setpriv", ["--pdeathsig", "TERM", ...command], {
    stdio: "inherit",
    env: withinMachine({ ...process.env, ...env }),
  });
  let failed = false;
  // Ctrl-C reaches the child by itself; a signal to this process alone is passed on, and its end is ours.
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
  const fail = (error: unknown): void => {
    console.error(`the simulated ${cloud} failed:`, error);
    failed = true;
    child.kill();
  };
  process.on("SIGINT", pass).on("SIGTERM", pass).on("uncaughtException", fail);
  try {
    const [code] = (await once(child, "exit")) as [number | null];
    return failed ? 1 : (code ?? 1);
  } finally {
    process.off("SIGINT", pass).off("SIGTERM", pass).off("uncaughtException", fail);
  }
}
