/**
 * The whole loops, fault sweeps and suites of others, of which `npm test` runs samples, and a session on moto: every
 * fault point, the loads at their full sizes, a thousand runs of each kind, the Go tests without their short cuts, and
 * each Go fuzz target for a while; the backend of Kubernetes on a real one; all clients on ECS, once more with agents that
 * call, and on Azure, with a kill at each step and cuts of the network there. Arguments choose steps by their names, or are
 * those of the integration tests, whose flags go to every step of these: `npm run soak -- "clients on Azure"`,
 * `npm run soak -- test/ecs`.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./program.ts";
import { runTests, type TestRun } from "./test-run.ts";

interface Step {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd: string;
  /** Files, folders and patterns of integration tests. */
  readonly tests?: readonly string[];
  /** Environment beside the defaults: the loops whole, and a storm of 1,000 runs. */
  readonly variables?: Readonly<Record<string, string>>;
}

const given = process.argv.slice(2);
/** Those of `node --test`, for the integration tests of each step. */
const flags = given.filter((each) => each.startsWith("-"));
const chosen = given.filter((each) => !each.startsWith("-"));

const fuzzSeconds = 30;

/** Packages of agent/ and their fuzz targets. */
const fuzzTargets = [
  ["./host/layers", "FuzzUnpack"],
  ["./core/archive", "FuzzPut"],
  ["./core/log", "FuzzDamagedFile"],
  ["./core/server", "FuzzABulkHeadIsNeverReadBeyondItsMessage"],
] as const;

/** Few: each of its containers really runs. */
const stormOfACloud = { SOCKERLESS_STORM_RUNS: "40" };

const named: readonly Step[] = [
  integration("tests", [
    ...["test/fault/!(builds|storm).test.ts", "test/load", "test/differential"],
    ...["test/api/storm.test.ts", "test/api/act.test.ts"],
    ...[
      "test/builds/programs.test.ts",
      "test/builds/damaged-cache.soak.test.ts",
      "test/ecs/moto.soak.test.ts",
    ],
    ...["test/local/hostile-images.test.ts", "test/local/handed-streams.test.ts"],
    ...["test/local/floods.test.ts", "test/agent/strangers.test.ts"],
    ...["test/contract/engine/{crash,recovery}.test.ts", "test/bench/interruption.test.ts"],
  ]),
  integration("builds beside BuildKit", [
    ...["test/builds/beside-buildkit.soak.test.ts", "test/ecs/beside-buildkit.soak.test.ts"],
  ]),
  integration("what is let go", ["test/api/let-go.test.ts"]),
  integration("kills in builds", ["test/fault/builds.test.ts"]),
  integration("storm", ["test/fault/storm.test.ts"]),
  integration("clients on ECS", ["test/api"], { ...stormOfACloud, SOCKERLESS_TEST_BACKEND: "ecs" }),
  integration("clients on ECS with agents that call", ["test/api"], {
    ...stormOfACloud,
    SOCKERLESS_TEST_BACKEND: "ecs",
    SOCKERLESS_TEST_AGENTS: "callback",
  }),
  integration("clients on Azure", ["test/api"], { ...stormOfACloud, SOCKERLESS_TEST_BACKEND: "aca" }),
  integration("kills on Azure", ["test/aca/recovery.test.ts", "test/aca/lost-starts.soak.test.ts"]),
  integration("prepared tasks", [
    ...["ecs", "aca"].flatMap((cloud) => [
      `test/${cloud}/prepared{,.soak}.test.ts`,
      `test/${cloud}/prepared-crashes.test.ts`,
    ]),
    "test/ecs/prepared-networks.soak.test.ts",
  ]),
  integration("claims", ["test/ecs/prepared-storm.soak.test.ts", "test/aca/prepared-storm.soak.test.ts"]),
  integration("lost starts on ECS", ["test/ecs/lost-starts.soak.test.ts"]),
  integration("Docker sockets in containers", [
    "test/ecs/inner-socket{,.soak}.test.ts",
    "test/aca/inner-socket.soak.test.ts",
  ]),
  integration("cuts on Azure", ["test/aca/cut.soak.test.ts"]),
  integration("postgres on Azure", ["test/aca/postgres.soak.test.ts"]),
  integration("untold ends", ["test/aca/untold-ends.test.ts"]),
  integration("packages", ["test/packages"]),
  integration("missing permissions", ["test/ecs/permissions.test.ts", "test/aca/permissions.test.ts"]),
  integration("metrics", ["test/prometheus"]),
  integration("doctor on Azure", ["test/aca/doctor-jobs.soak.test.ts"]),
  {
    name: "files damaged at random",
    program: process.execPath,
    args: [
      "--enable-source-maps",
      "--test",
      ...flags,
      "dist/src/cli/check.test.js",
      "dist/src/cli/check-layers.test.js",
    ],
    cwd: root,
  },
  {
    name: "kubernetes",
    program: process.execPath,
    args: ["--import", "tsx", "scripts/kubernetes.ts", "--test-timeout=7200000", ...flags],
    cwd: root,
    variables: stormOfACloud,
  },
  {
    name: "Docker's own suites",
    program: process.execPath,
    args: ["--enable-source-maps", "dist/test/conformance/conformance.js"],
    cwd: root,
  },
  go("Go tests", ["-count=1", "-timeout=60m", "./..."]),
  ...fuzzTargets.map(([folder, target]) =>
    go(`${target} in agent/${folder}`, [
      ...[folder, "-run=^$", `-fuzz=^${target}$`, `-fuzztime=${fuzzSeconds}s`],
    ]),
  ),
];
const steps: readonly Step[] = [...named, integration("samples of other files", otherSampledFiles())];

if (given.includes("--help")) {
  console.log(
    "Usage: npm run soak -- [STEP|FILE|FOLDER…]\n\n" +
      "FILE and FOLDER are integration tests in test/; without any argument all steps run:\n" +
      steps.map(({ name }) => `  ${name}`).join("\n"),
  );
  process.exit();
}
const files = chosen.filter((each) => !steps.some(({ name }) => name === each));
const unknown = files.filter((file) => !existsSync(join(root, file)));
if (unknown.length > 0) {
  console.error(`neither a step nor a file: ${unknown.join(", ")}`);
  process.exit(1);
}
const run = [
  ...(files.length > 0 || (chosen.length === 0 && flags.length > 0)
    ? [integration("chosen tests", files)]
    : []),
  ...steps.filter(({ name }) => given.length === 0 || chosen.includes(name)),
];

const isWell = await runTests(async (testRun) => {
  const failures: string[] = [];
  for (const step of run) {
    if (testRun.interrupted.aborted || !(await succeeds(step, testRun.env))) {
      failures.push(step.name);
    }
  }
  if (failures.length > 0) {
    console.error(`failed: ${failures.join(", ")}`);
  }
  return failures.length === 0;
});
process.exitCode = isWell ? 0 : 1;

async function succeeds(
  { name, program, args, cwd, variables }: Step,
  testEnv: TestRun["env"],
): Promise<boolean> {
  console.log(`soak: ${name}`);
  const whole = { SOCKERLESS_SOAK: "1", SOCKERLESS_STORM_RUNS: "1000", ...variables };
  const env = { ...process.env, ...testEnv, ...whole };
  const startedAt = performance.now();
  const [status] = (await once(spawn(program, args, { cwd, env, stdio: "inherit" }), "exit")) as [
    number | null,
  ];
  const minutes = ((performance.now() - startedAt) / 60_000).toFixed(1);
  console.log(`soak: ${name} ${status === 0 ? "ok" : "FAILED"} (${minutes} min)`);
  return status === 0;
}

/** Files of which `npm test` runs samples, of those that no named step has. */
function otherSampledFiles(): string[] {
  const here = named.filter(({ variables }) => variables?.["SOCKERLESS_TEST_BACKEND"] === undefined);
  const inSteps = here.flatMap(({ tests = [] }) => tests.flatMap((each) => [each, `${each}/**`]));
  const files = globSync("test/**/*.test.ts", { cwd: root, exclude: [...inSteps, "test/kubernetes/**"] });
  // Files that share their tests leave it to these what a sample is.
  const sharing = globSync(["test/{ecs,aca}/builds.test.ts", "test/ecs/ipv6.soak.test.ts"], { cwd: root });
  const isSampled = (file: string): boolean =>
    file.endsWith(".soak.test.ts") || readFileSync(join(root, file), "utf8").includes('/soak.ts"');
  return [...files.filter(isSampled), ...sharing].toSorted();
}

/** Integration tests, one file at a time. */
function integration(name: string, tests: readonly string[], variables: Step["variables"] = {}): Step {
  const once = ["--test-timeout=7200000", "--test-concurrency=1"];
  const args = ["--import", "tsx", "scripts/integration.ts", ...once, ...flags, ...tests];
  return { name, program: process.execPath, args, cwd: root, tests, variables };
}

function go(name: string, args: readonly string[]): Step {
  return { name, program: "go", args: ["test", ...args], cwd: `${root}/agent` };
}
