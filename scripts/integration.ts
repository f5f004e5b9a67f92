/**
 * The integration tests, two files a core at a time but for some that run alone, and what they leave behind. Arguments
 * are files or folders of test/; without them all run, in the soak those too whose names end with `.soak.test.ts`. Flags
 * are passed to `node --test` (`--test-name-pattern=…`, `--test-concurrency=1`).
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { globSync } from "node:fs";
import { availableParallelism } from "node:os";

import { root } from "./program.ts";
import { runTests, type TestRun } from "./test-run.ts";

const args = process.argv.slice(2);
if (args.includes("--help")) {
  console.log(
    "Usage: npm test -- [--changed | FILE|FOLDER…] [--test-name-pattern=TEXT]\n\n" +
      "FILE and FOLDER are integration tests in test/, --changed the tests that import what git says is changed,\n" +
      "flags those of node --test.",
  );
  process.exit();
}

/** Files that run side by side: most of them wait more than they compute. */
const lanes = Math.min(2 * availableParallelism(), 8);
/** Tests that count what comes late, or what memory a process takes: nothing of ours runs beside them. */
const alone = ["test/api/docker-py", "test/load/", "test/local/idle"];

const flags = args.filter((arg) => arg.startsWith("-"));
const chosen = args.filter((arg) => !arg.startsWith("-"));
const found = globSync(chosen.length === 0 ? ["dist/test/**/*.test.js"] : chosen.map(compiled), {
  cwd: root,
});
const { SOCKERLESS_SOAK: soak, SOCKERLESS_TEST_KUBERNETES: kubernetes } = process.env;
const isLeftOut = (file: string): boolean =>
  (soak !== "1" && file.endsWith(".soak.test.js")) ||
  (kubernetes === undefined && file.startsWith("dist/test/kubernetes/"));
const files = found.filter((file) => !isLeftOut(file));
if (files.length === 0) {
  console.error(
    found.length === 0
      ? `there are no tests in ${chosen.join(", ")}`
      : "none of these runs here: npm run soak has the .soak.test.ts, node --import tsx scripts/kubernetes.ts test/kubernetes",
  );
  process.exit(1);
}
const isAlone = (file: string): boolean => alone.some((beginning) => file.startsWith(`dist/${beginning}`));

const isWell = await runTests(async (testRun) => {
  const beside = await run(
    testRun,
    files.filter((file) => !isAlone(file)),
    lanes,
  );
  return (await run(testRun, files.filter(isAlone), 1)) && beside;
});
process.exitCode = isWell ? 0 : 1;

/** Runs files, so many at once; false: a test has failed. */
async function run(
  { env, interrupted }: TestRun,
  chosenFiles: readonly string[],
  concurrency: number,
): Promise<boolean> {
  if (chosenFiles.length === 0 || interrupted.aborted) {
    return true;
  }
  const tests = spawn(
    process.execPath,
    [
      "--test",
      "--enable-source-maps",
      `--test-concurrency=${concurrency}`,
      "--test-timeout=900000",
      "--test-reporter=spec",
      ...flags,
      ...chosenFiles,
    ],
    { cwd: root, stdio: "inherit", env: { ...process.env, ...env } },
  );
  const [code] = (await once(tests, "exit")) as [number | null];
  return code === 0;
}

/** `test/cli` as the pattern of its compiled tests, `test/cli/x.test.ts` as the compiled file. */
function compiled(path: string): string {
  const below = path.replace(/\/$/, "");
  return below.endsWith(".ts") ? `dist/${below.replace(/\.ts$/, ".js")}` : `dist/${below}/**/*.test.js`;
}
