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
    wanted.every((program) => existsSync(join(root, "build", program))) && builtEnters().length === 1;
  if (isBuilt && isStamped(stamp, current)) {
    return;
  }
  const go = await ensureGo();
  announce("building the agent");
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const small = "-s -w";
  const variable = (name, value) => `-X github.com/sockerless/sockerless/agent/${name}=${value}`;
  await build(go, enter, small);
  const named = nameByDigest(enter);
  for (const program of wanted) {
    const flags = [small, variable("core/version.Version", version), variable("shim.enterProgram", named)];
    await build(go, program, flags.join(" "));
  }
  writeStamp(stamp, current);
}

async function build(go, program, flags) {
  const file = join(root, "build", program);
  const code = await run(
    go,
    ["build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", file, `./cmd/${program}`],
    { cwd: join(root, "agent"), env: { CGO_ENABLED: "0", GOTOOLCHAIN: "local" } },
  );
  if (code !== 0) {
    throw new Failure(`agent/cmd/${program} does not build: see above`);
  }
  chmodSync(file, 0o755); // Users of containers execute it, whatever the umask here.
}

/** Names of the programs for execs that are built. */
function builtEnters() {
  return readdirSync(join(root, "build")).filter((name) => name.startsWith(`${enter}-`));
}

/** Puts the digest behind a program's name, and takes those of other digests away: shims that run have theirs open. */
function nameByDigest(program) {
  const file = join(root, "build", program);
  const digest = createHash("sha256").update(readFileSync(file)).digest("hex");
  const named = `${program}-${digest.slice(0, 12)}`;
  for (const other of builtEnters()) {
    rmSync(join(root, "build", other));
  }
  renameSync(file, join(root, "build", named));
  return named;
}
