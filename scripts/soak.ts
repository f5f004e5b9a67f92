/**
 * The whole loops, fault sweeps and suites of others, of which `npm test` runs samples, and a session on moto: every
 * fault point, the loads at their full sizes, a thousand runs of each kind, the Go tests without their short cuts, and
 * each Go fuzz target for a while; the clients on ECS once more with agents that call, and all of them on Azure. Arguments are
 * those of the integration tests and leave out what is Go: `npm run soak -- test/ecs` is for the ECS backend.
 */
import { spawnSync } from "node:child_process";
import { beginTestRun } from "./leaks.ts";
import { root } from "./program.ts";

const fuzzSeconds = 30;

/** Packages of agent/ and their fuzz targets. */
const fuzzTargets = [
  ["./host/layers", "FuzzUnpack"],
  ["./core/archive", "FuzzPut"],
  ["./core/log", "FuzzDamagedFile"],
  ["./core/server", "FuzzABulkHeadIsNeverReadBeyondItsMessage"],
] as const;

const chosen = process.argv.slice(2);
if (chosen.includes("--help")) {
  console.log(
    "Usage: npm run soak -- [FILE|FOLDER…]\n\nFILE and FOLDER are integration tests in test/; without any all runs.",
  );
  process.exit();
}
const tests =
  chosen.length > 0
    ? chosen
    : [
        ...["test/fault", "test/load", "test/differential", "test/api/storm.test.ts"],
        ...["test/builds/beside-buildkit.test.ts", "test/ecs/moto.test.ts"],
        "test/local/hostile-images.test.ts",
      ];
/** Tests of which `npm test` runs a sample. */
const onAzure = ["test/aca/api"];
/** Tests that run with agents that call, too. */
const onEcs = ["test/ecs/api"];
const failures: string[] = [];

const testRun = beginTestRun();

function run(
  name: string,
  program: string,
  args: readonly string[],
  cwd: string,
  variables: Readonly<Record<string, string>> = {},
): void {
  console.log(`soak: ${name}`);
  const whole = { SOCKERLESS_SOAK: "1", SOCKERLESS_STORM_RUNS: "1000", ...variables };
  const env = { ...process.env, ...testRun.env, ...whole };
  const startedAt = performance.now();
  const { status } = spawnSync(program, args, { cwd, env, stdio: "inherit" });
  const minutes = ((performance.now() - startedAt) / 60_000).toFixed(1);
  console.log(`soak: ${name} ${status === 0 ? "ok" : "FAILED"} (${minutes} min)`);
  if (status !== 0) {
    failures.push(name);
  }
}

const once = ["--test-timeout=7200000", "--test-concurrency=1"];
const integration = ["--import", "tsx", "scripts/integration.ts", ...once];
run("tests", process.execPath, [...integration, ...tests], root);
if (chosen.length === 0) {
  run("clients on ECS with agents that call", process.execPath, [...integration, ...onEcs], root, {
    SOCKERLESS_TEST_AGENTS: "callback",
    SOCKERLESS_SOAK: "",
  });
  // The storm is as large as on ECS in `npm test`: each of its containers really runs.
  run("clients on Azure", process.execPath, [...integration, ...onAzure], root, {
    SOCKERLESS_STORM_RUNS: "40",
  });
  run(
    "Docker's own suites",
    process.execPath,
    ["--enable-source-maps", "dist/test/conformance/conformance.js"],
    root,
  );
  run("Go tests", "go", ["test", "-count=1", "-timeout=60m", "./..."], `${root}/agent`);
  for (const [folder, target] of fuzzTargets) {
    const args = ["test", folder, "-run=^$", `-fuzz=^${target}$`, `-fuzztime=${fuzzSeconds}s`];
    run(`${target} in agent/${folder}`, "go", args, `${root}/agent`);
  }
  failures.push(...(await testRun.findLeaks()).map((leak) => `left behind: ${leak}`));
}
if (failures.length > 0) {
  console.error(`failed: ${failures.join(", ")}`);
  process.exitCode = 1;
}
