/** The Go programs, static and without symbols: they run in any image. */
import { createHash } from "node:crypto";
import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

import { fingerprint, isStamped, writeStamp } from "./fingerprint.mjs";
import { ensureGo, goContracts } from "./go-program.mjs";
import { announce, Failure, root, run } from "./run.mjs";

/** Each program's folder in agent/cmd and its file in build/. */
const programs = ["sockerless-agent", "hello"];
/** The program that a shim starts for each exec. Its name in build/ has its digest behind it, which the agent knows: both are of one build. */
const enter = "sockerless-enter";
const stamp = "build/.agent-inputs";

/** Builds the agent and the program of the built-in image unless nothing has changed. */
export async function buildAgent() {
  const wanted = programs.filter((program) => existsSync(join(root, "agent/cmd", program, "main.go")));
  const current = fingerprint(["agent", ...goContracts, "package.json", "scripts/prepare/build-agent.mjs"]);
  if (wanted.length === 0) {
    return;
  }
  const isBuilt =
    wanted.every((program) => existsSync(join(root, "build", program))) &&
    builtEnters(join(root, "build")).length === 1;
  if (isBuilt && isStamped(stamp, current)) {
    return;
  }
  announce("building the agent");
  await buildPrograms(join(root, "build"), wanted);
  writeStamp(stamp, current);
}

/**
 * Builds the Go programs, whatever there is.
 *
 * @param {string} directory that they are put into
 * @param {string[]} wanted their names
 * @param {string | undefined} architecture as GOARCH; undefined: this machine's
 */
export async function buildPrograms(directory, wanted = programs, architecture = undefined) {
  const go = await ensureGo();
  const build = (program, flags) => buildProgram(go, program, flags, directory, architecture);
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const small = "-s -w";
  const variable = (name, value) => `-X github.com/sockerless/sockerless/agent/${name}=${value}`;
  await build(enter, small);
  const named = nameByDigest(enter, directory);
  for (const program of wanted) {
    const flags = [small, variable("core/version.Version", version), variable("shim.enterProgram", named)];
    await build(program, flags.join(" "));
  }
}

async function buildProgram(go, program, flags, directory, architecture) {
  const file = join(directory, program);
  const target = architecture === undefined ? {} : { GOARCH: architecture };
  const code = await run(
    go,
    ["build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", file, `./cmd/${program}`],
    { cwd: join(root, "agent"), env: { CGO_ENABLED: "0", GOTOOLCHAIN: "local", ...target } },
  );
  if (code !== 0) {
    throw new Failure(`agent/cmd/${program} does not build: see above`);
  }
  chmodSync(file, 0o755); // Users of containers execute it, whatever the umask here.
}

/** Names of the programs for execs that are built. */
function builtEnters(directory) {
  return readdirSync(directory).filter((name) => name.startsWith(`${enter}-`));
}

/** Puts the digest behind a program's name, and takes those of other digests away: shims that run have theirs open. */
function nameByDigest(program, directory) {
  const file = join(directory, program);
  const digest = createHash("sha256").update(readFileSync(file)).digest("hex");
  const named = `${program}-${digest.slice(0, 12)}`;
  for (const other of builtEnters(directory)) {
    rmSync(join(directory, other));
  }
  renameSync(file, join(directory, named));
  return named;
}
