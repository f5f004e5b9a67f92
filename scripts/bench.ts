/** `npm run bench`: the compiled test/bench/bench.ts with the same arguments. */
import { spawn } from "node:child_process";
import { once } from "node:events";

import { root } from "./program.ts";

const bench = spawn(
  process.execPath,
  ["--enable-source-maps", "dist/test/bench/bench.js", ...process.argv.slice(2)],
  { cwd: root, stdio: "inherit" },
);
const [code] = (await once(bench, "exit")) as [number | null];
process.exitCode = code ?? 1;
