/**
 * Makes a sockerless a test build: one that can be killed at a named step. The module is loaded before anything of the
 * product (`testBuildEnv`), and the agent is one that was built with its fault points.
 *
 * SOCKERLESS_FAULT_POINT_FILE is the path of a file that holds the name of one step; whichever process comes there
 * removes the file and kills itself, so that the next one lives. `:3` behind a name means the third time (of steps of the
 * backend). A file and not a variable with the step's name, because the process that is started again inherits the environment.
 *
 * SOCKERLESS_FAULT_POINT_RECORD is the path of a file to which the backend appends the name of each step it comes to, a
 * line each; optional.
 */
import { appendFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { TestBuild } from "../../src/backends/driver/fault-points.ts"; // Loading it here would be too early.
import { buildLimitMs, runCommand } from "./command.ts";

const variable = "SOCKERLESS_FAULT_POINT_FILE";
const recordVariable = "SOCKERLESS_FAULT_POINT_RECORD";
const checkout = fileURLToPath(new URL("../../..", import.meta.url));
const directory = join(checkout, "build/test");
const agentPath = join(directory, "sockerless-agent");
/** The program that enters containers, beside the agent as in a product. */
const enter = "sockerless-enter";

const armed = process.env[variable];
const record = process.env[recordVariable];
if (armed !== undefined) {
  const build: TestBuild = {
    agentPath,
    reached: (step) => {
      if (record !== undefined) {
        appendFileSync(record, `${step}\n`);
      }
      reached(step, armed);
    },
  };
  Reflect.set(globalThis, Symbol.for("sockerless.test-build"), build);
}

let agentBuild: Promise<void> | undefined;

/** Builds the agent with its fault points, and the program that it enters containers with. */
async function buildAgent(): Promise<void> {
  await buildProgram(enter, "");
  await buildProgram(
    "sockerless-agent",
    `-X github.com/sockerless/sockerless/agent/shim.enterProgram=${enter}`,
  );
}

async function buildProgram(program: string, flags: string): Promise<void> {
  const out = ["-ldflags", flags, "-o", join(directory, program), `./cmd/${program}`];
  const args = ["build", "-tags=faultpoints", "-trimpath", "-buildvcs=false", ...out];
  const cwd = join(checkout, "agent");
  // Another file of tests may build it, too: the second one finds it up to date, and does not write over what may be running.
  const built = await runCommand("flock", ["--no-fork", cwd, "go", ...args], {
    cwd,
    env: { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "local" },
    timeout: buildLimitMs,
  });
  if (built.code !== 0) {
    throw new Error(`${program} does not build:\n${built.errorText}`);
  }
}

/**
 * Builds the agent, and answers the environment of `sockerless serve` in which it is a test build.
 *
 * @param faultPointFile where the step is named at which a process is to die
 * @param recordFile where the backend writes which steps it comes to; undefined: nowhere
 */
export async function testBuildEnv(
  faultPointFile: string,
  recordFile?: string,
): Promise<Record<string, string>> {
  agentBuild ??= buildAgent();
  await agentBuild;
  const nodeOptions = `${process.env["NODE_OPTIONS"] ?? ""} --import=${import.meta.url}`.trim();
  return {
    [variable]: faultPointFile,
    ...(recordFile !== undefined && { [recordVariable]: recordFile }),
    NODE_OPTIONS: nodeOptions,
  };
}

function reached(step: string, file: string): void {
  const [name, count = "1"] = readOrEmpty(file).trim().split(":");
  if (name !== step) {
    return;
  }
  if (Number(count) > 1) {
    writeFileSync(file, `${name}:${Number(count) - 1}`);
    return;
  }
  rmSync(file);
  process.kill(process.pid, "SIGKILL");
}

function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // no step is named
  }
}
