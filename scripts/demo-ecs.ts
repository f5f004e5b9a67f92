/** `npm run demo:ecs`: the compiled test/ecs/demo.ts with the same arguments. */
import { spawn } from "node:child_process";
import { once } from "node:events";

import { root } from "./program.ts";

const demo = spawn(
  process.execPath,
  ["--enable-source-maps", "dist/test/ecs/demo.js", ...process.argv.slice(2)],
  { cwd: root, stdio: "inherit" },
);
const pass = (signal: NodeJS.Signals): void => void demo.kill(signal);
process.on("SIGINT", pass).on("SIGTERM", pass);
const [code] = (await once(demo, "exit")) as [number | null];
process.exitCode = code ?? 1;
