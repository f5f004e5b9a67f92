/** Running the TypeScript scripts of this folder's parent, with the Node that fits. */
import { spawn } from "node:child_process";
import { dirname, delimiter, join } from "node:path";

import { ensureGo } from "./go-program.mjs";
import { findNode } from "./node-program.mjs";
import { root } from "./run.mjs";

/**
 * Runs `scripts/NAME.ts`; Go and the fitting Node are on its PATH.
 *
 * @param {string} name
 * @param {string[]} args
 * @returns {Promise<number>} its exit code
 */
export async function runScript(name, args = []) {
  const [node, go] = await Promise.all([findNode(), ensureGo()]);
  const path = [dirname(node), dirname(go), process.env.PATH].join(delimiter);
  const child = spawn(node, ["--import", "tsx", join(root, "scripts", `${name}.ts`), ...args], {
    cwd: root,
    env: { ...process.env, PATH: path, GOTOOLCHAIN: "local" },
    stdio: "inherit",
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => child.kill(signal));
  }
  const parent = process.ppid; // A parent that is killed passes no signal on.
  setInterval(() => process.ppid === parent || child.kill("SIGHUP"), 1000).unref();
  return new Promise((done) => {
    child.on("error", () => done(127));
    child.on("exit", (code, signal) => done(signal === null ? (code ?? 1) : 1));
  });
}
