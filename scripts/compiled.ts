/** Running a compiled program of test/ as an npm script: same arguments, same terminal, its exit code. */
import { spawn } from "node:child_process";
import { once } from "node:events";

import { root } from "./program.ts";

/**
 * Runs it to its end.
 *
 * @param path below dist/
 */
export async function runCompiled(path: string): Promise<void> {
  const child = spawn(process.execPath, ["--enable-source-maps", `dist/${path}`, ...process.argv.slice(2)], {
    cwd: root,
    stdio: "inherit",
  });
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
  process.on("SIGINT", pass).on("SIGTERM", pass);
  const [code] = (await once(child, "exit")) as [number | null];
  process.exitCode = code ?? 1;
}
