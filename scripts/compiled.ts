/** Running a compiled program of test/ as an npm script: same arguments, same terminal, its exit code. */
import { spawn } from "node:child_process";
import { once } from "node:events";

import { root } from "./program.ts";

/** How {@link runCompiled} runs a program. */
export interface CompiledOptions {
  /** A terminal's signals reach it by this process alone, and nothing that it has started. */
  readonly isApart?: boolean;
  /** It has a network of its own, with nothing but a loopback interface, and fetches in this one. */
  readonly hasOwnNetwork?: boolean;
}

/**
 * Runs it to its end.
 *
 * @param path below dist/
 */
export async function runCompiled(path: string, options: CompiledOptions = {}): Promise<void> {
  const { isApart = false, hasOwnNetwork = false } = options;
  const program = [process.execPath, "--enable-source-maps", `dist/${path}`, ...process.argv.slice(2)];
  const withNetwork = ["unshare", "--net", "sh", "-ec", 'ip link set lo up; exec "$@"', "sh"];
  const [command = "", ...args] = [...(hasOwnNetwork ? withNetwork : []), ...program];
  const child = spawn(command, args, {
    cwd: root,
    stdio: "inherit",
    detached: isApart,
    env: {
      ...process.env,
      ...(hasOwnNetwork && { SOCKERLESS_TEST_OUTER_NETWORK: `/proc/${process.pid}/ns/net` }),
    },
  });
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
  process.on("SIGINT", pass).on("SIGTERM", pass).on("SIGHUP", pass);
  const [code] = (await once(child, "exit")) as [number | null];
  process.exitCode = code ?? 1;
}
