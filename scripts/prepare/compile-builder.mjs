/** Compiling the builder, on BuildKit's libraries. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { ensureGo } from "./go-program.mjs";
import { Failure, root, run } from "./run.mjs";

/**
 * Compiles it, static and without symbols.
 *
 * @param {string} file that it is put into
 * @param {string | undefined} architecture as GOARCH; undefined: this machine's
 */
export async function compileBuilder(file, architecture = undefined) {
  const go = await ensureGo("builder");
  const flags = `-s -w -X github.com/moby/buildkit/version.Version=${buildkitVersion()}`;
  const target = architecture === undefined ? {} : { GOARCH: architecture };
  const code = await run(
    go,
    ["build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", file, "./cmd/sockerless-builder"],
    { cwd: join(root, "builder"), env: { CGO_ENABLED: "0", GOTOOLCHAIN: "local", ...target } },
  );
  if (code !== 0) {
    throw new Failure("builder/cmd/sockerless-builder does not build: see above");
  }
}

function buildkitVersion() {
  const module = readFileSync(join(root, "builder/go.mod"), "utf8");
  return /moby\/buildkit (v[\d.]+)/.exec(module)?.[1] ?? "unknown";
}
