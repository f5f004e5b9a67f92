/**
 * The integration tests, two files at a time, and what they leave behind. Arguments are files or folders of test/; without
 * them all run. Flags are passed to `node --test` (`--test-name-pattern=…`, `--test-concurrency=1`).
 */
import { spawn } from "node:child_process";
import { once } from "node:events";

import { beginTestRun } from "./leaks.ts";
import { root } from "./program.ts";

const args = process.argv.slice(2);
if (args.includes("--help")) {
  console.log(
    "Usage: npm test -- [--test-name-pattern=TEXT] [FILE|FOLDER…]\n\n" +
      "FILE and FOLDER are integration tests in test/, flags those of node --test.",
  );
  process.exit();
}
/** Files that run side by side: many of them wait more than they compute. */
const lanes = 2;

const flags = args.filter((arg) => arg.startsWith("-"));
const chosen = args.filter((arg) => !arg.startsWith("-"));

const testRun = beginTestRun();
const tests = spawn(
  process.execPath,
  [
    "--test",
    "--enable-source-maps",
    `--test-concurrency=${lanes}`,
    "--test-timeout=900000",
    "--test-reporter=spec",
    ...flags,
    ...(chosen.length === 0 ? ["dist/test/**/*.test.js"] : chosen.map(compiled)),
  ],
  { cwd: root, stdio: "inherit", env: { ...process.env, ...testRun.env } },
);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => tests.kill(signal));
}
const [code] = (await once(tests, "exit")) as [number | null];

const leaks = await testRun.findLeaks();
if (leaks.length > 0) {
  console.error(`the tests left behind:\n${leaks.map((leak) => `  ${leak}`).join("\n")}`);
}
process.exitCode = code === 0 && leaks.length === 0 ? 0 : 1;

/** `test/cli` as the pattern of its compiled tests, `test/cli/x.test.ts` as the compiled file. */
function compiled(path: string): string {
  const below = path.replace(/\/$/, "");
  return below.endsWith(".ts") ? `dist/${below.replace(/\.ts$/, ".js")}` : `dist/${below}/**/*.test.js`;
}
