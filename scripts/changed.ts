/**
 * `npm test -- --changed`: the tests that import what git says is changed, in the working tree and since the branch left
 * main. Unit tests, and the engine's over a driver in memory, run from source. Tests that start daemons run, after a
 * build, where files of test/ changed: what such a daemon loads is not in the imports of its test. Other arguments are
 * flags of `node --test`.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { join } from "node:path";

import { filesReachedFrom, type ImportGraph, readImportGraph } from "./import-graph.ts";
import { root } from "./program.ts";
import { runTests } from "./test-run.ts";

/** Test files, as paths from the checkout. */
export interface ChosenTests {
  /** Those that run from source. */
  readonly unit: readonly string[];
  /** Those that start daemons, and are reached by files of test/ alone. */
  readonly integration: readonly string[];
  /** How many more that start daemons import something that changed. */
  readonly leftOut: number;
}

/** Chooses the tests of changed files. */
export function testsOf(changed: readonly string[], graph: ImportGraph): ChosenTests {
  const testsReached = (from: readonly string[], within: ImportGraph): string[] =>
    [...filesReachedFrom(from, within)].filter((file) => file.endsWith(".test.ts") && within.has(file));
  const reached = testsReached(changed, graph);
  const unit = reached.filter((file) => !startsDaemons(file));
  const ofTests = new Map([...graph].filter(([file]) => file.startsWith("test/")));
  const integration = testsReached(
    changed.filter((file) => file.startsWith("test/")),
    ofTests,
  ).filter(startsDaemons);
  return { unit, integration, leftOut: reached.length - unit.length - integration.length };
}

function startsDaemons(test: string): boolean {
  return test.startsWith("test/") && !test.startsWith("test/contract/engine/");
}

/** Files that differ from where the branch left main, those too that git does not know yet. */
function changedFiles(): string[] {
  const main = ["origin/main", "main"].find((name) => git("rev-parse", "--verify", "--quiet", name) !== "");
  const base = main === undefined ? "HEAD" : git("merge-base", "HEAD", main);
  return [
    git("diff", "--name-only", "--diff-filter=d", base),
    git("ls-files", "--others", "--exclude-standard"),
  ]
    .flatMap((list) => list.split("\n"))
    .filter((file) => file !== "");
}

/** Output of git; nothing where it fails. */
function git(...args: string[]): string {
  return spawnSync("git", args, { cwd: root, encoding: "utf8" }).stdout.trim();
}

/** Runs Node; true: it succeeded. */
async function node(args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<boolean> {
  const [code] = await once(spawn(process.execPath, args, { cwd: root, stdio: "inherit", env }), "exit");
  return code === 0;
}

function runUnitTests(files: readonly string[], flags: readonly string[]): Promise<boolean> {
  // By the environment: programs and threads that tests start run from source, too.
  const preload = `--import=${join(root, "scripts/from-source.mjs")}`;
  const args = ["--test", `--test-concurrency=${availableParallelism()}`, "--test-timeout=180000"];
  return runTests(({ env }) =>
    node([...args, "--test-reporter=spec", ...flags, ...files], {
      ...process.env,
      ...env,
      NODE_OPTIONS: preload,
      NODE_DISABLE_COMPILE_CACHE: "1",
    }),
  );
}

async function runIntegrationTests(files: readonly string[], flags: readonly string[]): Promise<boolean> {
  const run = ["--import", "tsx", "scripts/integration.ts", ...flags, ...files];
  return (await node(["scripts/build.mjs"])) && (await node(run));
}

if (import.meta.main) {
  const flags = process.argv.slice(2);
  const graph = readImportGraph(["src/**/*.ts", "test/**/*.ts", "scripts/**/*.ts"]);
  const { unit, integration, leftOut } = testsOf(changedFiles(), graph);
  console.log(
    `${unit.length} test files from source, ${integration.length} with daemons` +
      (leftOut > 0 ? `; ${leftOut} more with daemons import what changed: npm test runs them` : ""),
  );
  const ofUnits = unit.length === 0 || (await runUnitTests(unit, flags));
  const ofDaemons = integration.length === 0 || (await runIntegrationTests(integration, flags));
  process.exitCode = ofUnits && ofDaemons ? 0 : 1;
}
