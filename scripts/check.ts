/**
 * `npm run check`: everything that can be known without starting sockerless. All steps run, two at a time, and the
 * summary at the end names those that failed. Arguments choose steps by their names.
 */
import { globSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { findRefusedOpenings } from "./comment-openings.ts";
import { baseline, compareGenerated } from "./generated-code.ts";
import { compareDocuments } from "./generated-documents.ts";
import { findComplaints } from "./import-fences.ts";
import { findUnlisted } from "./internals.ts";
import { findDeadLinks } from "./links.ts";
import { type Outcome, root, run } from "./program.ts";
import { runTests, type TestRun } from "./test-run.ts";

interface Step {
  readonly name: string;
  /** Names of steps that must have succeeded. */
  readonly after?: readonly string[];
  /** Runs the step. The variables are for what runs code of ours, which must leave the machine as it was. */
  readonly run: (env: TestRun["env"]) => Promise<Outcome>;
}

const testsOfScripts = [
  ...["--import", "tsx", "--test", "--test-timeout=180000", "--test-concurrency=2", "--test-reporter=dot"],
  "scripts/**/*.test.ts",
];

const steps: readonly Step[] = [
  { name: "generated code", run: compareGenerated },
  { name: "build", run: () => run(process.execPath, ["scripts/build.mjs"]) },
  { name: "lock file", run: checkLockFile },
  { name: "proto lint", run: () => run("buf", ["lint"]) },
  { name: "proto breaking", run: () => run("buf", ["breaking", "--against", baseline]) },
  { name: "types of scripts", run: () => run("tsc", ["--project", "tsconfig.scripts.json"]) },
  { name: "biome", run: () => run("biome", ["ci", "--colors=off", "--error-on-warnings"]) },
  { name: "import fences", run: checkFences },
  { name: "comment openings", run: checkCommentOpenings },
  { name: "internals", run: checkInternals },
  { name: "generated documents", run: compareDocuments },
  { name: "links", run: checkLinks },
  { name: "go format", run: checkGoFormat },
  { name: "go vet", run: vetGo },
  { name: "unit tests", after: ["build"], run: runUnitTests },
  {
    name: "tests of scripts",
    run: (env) => run(process.execPath, testsOfScripts, { env }),
  },
  {
    name: "go test",
    after: ["go vet"],
    run: testGo,
  },
];

/** Checks that `npm ci` can work from the lock file on every platform, and from any configured registry. */
async function checkLockFile(): Promise<Outcome> {
  const lock = await readFile(join(root, "package-lock.json"), "utf8");
  if (lock.includes('"resolved"')) {
    return { code: 1, output: "package-lock.json names a registry: remove its resolved keys" };
  }
  return run("npm", ["ci", "--dry-run", "--ignore-scripts", "--loglevel=error"]);
}

async function checkFences(): Promise<Outcome> {
  const found = findComplaints();
  return { code: found.length === 0 ? 0 : 1, output: found.join("\n") };
}

async function checkCommentOpenings(): Promise<Outcome> {
  const found = findRefusedOpenings();
  return { code: found.length === 0 ? 0 : 1, output: found.join("\n") };
}

async function checkInternals(): Promise<Outcome> {
  const found = findUnlisted();
  return { code: found.length === 0 ? 0 : 1, output: found.join("\n") };
}

async function checkLinks(): Promise<Outcome> {
  const found = findDeadLinks();
  return { code: found.length === 0 ? 0 : 1, output: found.join("\n") };
}

async function checkGoFormat(): Promise<Outcome> {
  const files = globSync("{agent,builder,test/bench}/**/*.go", { cwd: root });
  const { code, output } = await run("gofmt", ["-l", ...files]);
  return { code: code !== 0 || output !== "" ? 1 : 0, output: output === "" ? "" : `gofmt -w:\n${output}` };
}

const goModules = ["agent", "builder", "test/bench"] as const;
/** As the programs are compiled, those too that the tests compile: Go's cache has their packages once. */
const goEnv = { CGO_ENABLED: "0", GOFLAGS: "-trimpath" };
/** Packages, and parallel tests of each, that run side by side: they wait more than they compute. */
const goLanes = ["-p=4", "-parallel=4"];

/** In two processes at a time. */
async function runUnitTests(env: TestRun["env"]): Promise<Outcome> {
  const shards = await Promise.all(
    ["1/2", "2/2"].map((shard) =>
      run(process.execPath, ["--enable-source-maps", "scripts/unit-tests.ts", shard], { env }),
    ),
  );
  return {
    code: shards.find(({ code }) => code !== 0)?.code ?? 0,
    output: shards.map(({ output }) => output).join(""),
  };
}

async function vetGo(): Promise<Outcome> {
  for (const cwd of goModules) {
    const outcome = await run("go", ["vet", "./..."], { cwd, env: goEnv });
    if (outcome.code !== 0) {
      return outcome;
    }
  }
  return { code: 0, output: "" };
}

async function testGo(testEnv: TestRun["env"]): Promise<Outcome> {
  let code = 0;
  let output = "";
  for (const cwd of goModules) {
    const args = ["test", "-short", "-timeout=30m", ...goLanes, "./..."];
    const outcome = await run("go", args, { cwd, env: { ...testEnv, ...goEnv } });
    code ||= outcome.code;
    output += outcome.output;
  }
  return { code, output: output.replaceAll(/^(ok {2}|\? {3})\t.*\n/gm, "") };
}

type Verdict = "ok" | "FAILED" | "not run";

async function runSteps(chosen: readonly Step[], { env, interrupted }: TestRun): Promise<Map<Step, Verdict>> {
  const verdicts = new Map<Step, Verdict>();
  const waiting = [...chosen];
  const worker = async (): Promise<void> => {
    for (;;) {
      const index = waiting.findIndex((step) => dependencies(step).every((each) => verdicts.has(each)));
      const [step] = index < 0 ? [] : waiting.splice(index, 1);
      if (step === undefined) {
        if (waiting.length === 0) {
          return;
        }
        await new Promise((resume) => setTimeout(resume, 20));
        continue;
      }
      verdicts.set(step, await perform(step));
    }
  };
  const dependencies = (step: Step): Step[] => chosen.filter((each) => step.after?.includes(each.name));
  const perform = async (step: Step): Promise<Verdict> => {
    if (interrupted.aborted || dependencies(step).some((each) => verdicts.get(each) !== "ok")) {
      return "not run";
    }
    const startedAt = performance.now();
    const { code, output } = await step.run(env);
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    console.log(`${code === 0 ? "ok    " : "FAILED"} ${step.name} (${seconds} s)`);
    if (code !== 0) {
      console.log(output.trimEnd().replaceAll(/^/gm, "       "));
    }
    return code === 0 ? "ok" : "FAILED";
  };
  await Promise.all([worker(), worker()]);
  return verdicts;
}

const names = process.argv.slice(2);
const unknown = names.filter((name) => !steps.some((step) => step.name === name));
if (unknown.length > 0) {
  console.error(
    `no such step: ${unknown.join(", ")}; there are: ${steps.map(({ name }) => name).join(", ")}`,
  );
  process.exit(1);
}
const chosen = names.length === 0 ? steps : steps.filter(({ name }) => names.includes(name));
const isWell = await runTests(async (testRun) => {
  const verdicts = await runSteps(chosen, testRun);
  const failed = [...verdicts].filter(([, verdict]) => verdict !== "ok");
  console.log(
    failed.length === 0
      ? `check: all ${verdicts.size} steps ok`
      : `check: ${failed.map(([{ name }, verdict]) => `${name} ${verdict}`).join(", ")}`,
  );
  return failed.length === 0;
});
process.exitCode = isWell ? 0 : 1;
