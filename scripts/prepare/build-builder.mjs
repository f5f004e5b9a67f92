/**
 * `node scripts/prepare/build-builder.mjs [--check]`: the builder, which is compiled by the first build that needs it, as
 * BuildKit's libraries take minutes. With `--check` nothing is compiled, and exit code 3 says that it would have to be.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { fingerprint, isStamped, writeStamp } from "./fingerprint.mjs";
import { ensureGo, goContracts } from "./go-program.mjs";
import { exclusively } from "./lock.mjs";
import { main } from "./prepare.mjs";
import { announce, Failure, root, run } from "./run.mjs";

const program = join(root, "build/sockerless-builder");
const stamp = "build/.builder-inputs";

await main(async () => {
  const current = fingerprint(["builder", ...goContracts]);
  if (existsSync(program) && isStamped(stamp, current)) {
    return 0;
  }
  if (process.argv.includes("--check")) {
    return 3;
  }
  await exclusively(() => build(current));
  return 0;
});

async function build(current) {
  if (existsSync(program) && isStamped(stamp, current)) {
    return;
  }
  const go = await ensureGo("builder");
  announce("building the builder, which takes minutes the first time");
  const flags = `-s -w -X github.com/moby/buildkit/version.Version=${buildkitVersion()}`;
  const code = await run(
    go,
    ["build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", program, "./cmd/sockerless-builder"],
    { cwd: join(root, "builder"), env: { CGO_ENABLED: "0", GOTOOLCHAIN: "local" } },
  );
  if (code !== 0) {
    throw new Failure("builder/cmd/sockerless-builder does not build: see above");
  }
  writeStamp(stamp, current);
}

function buildkitVersion() {
  const module = readFileSync(join(root, "builder/go.mod"), "utf8");
  return /moby\/buildkit (v[\d.]+)/.exec(module)?.[1] ?? "unknown";
}
