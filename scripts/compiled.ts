/** Running a compiled program of test/ as an npm script: same arguments, same terminal, its exit code. */
import { spawn } from "node:child_process";
import { once } from "node:events";

import { root } from "./program.ts";

/**
 * Runs it to its end.
 *
 * @param path below dist/
 * @param isApart a terminal's signals reach it by this process alone, and nothing that it has started
 */
export async function runCompiled(path: string, isApart = false): Promise<void> {
  const child = spawn(process.execPath, ["--enable-source-maps", `dist/${path}`, ...process.argv.slice(2)], {
    cwd: root,
    stdio: "inherit",
    detached: isApart,
  });
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
  process.on("SIGINT", pass).on("SIGTERM", pass).on("SIGHUP", pass);
  const [code] = (await once(child, "exit")) as [number | null];
  process.exitCode = code ?? 1;
}
