/** The Go programs, static and without symbols: they run in any image. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { fingerprint, isStamped, writeStamp } from "./fingerprint.mjs";
import { ensureGo } from "./go-program.mjs";
import { announce, Failure, root, run } from "./run.mjs";

/** Each program's folder in agent/cmd and its file in build/. */
const programs = ["sockerless-agent", "hello"];
const stamp = "build/.agent-inputs";

/** Builds the agent and the program of the built-in image unless nothing has changed. */
export async function buildAgent() {
  const wanted = programs.filter((program) => existsSync(join(root, "agent/cmd", program, "main.go")));
  const current = fingerprint(["agent", "package.json"]);
  if (wanted.length === 0) {
    return;
  }
  const isBuilt = wanted.every((program) => existsSync(join(root, "build", program)));
  if (isBuilt && isStamped(stamp, current)) {
    return;
  }
  const go = await ensureGo();
  announce("building the agent");
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const flags = `-s -w -X github.com/sockerless/sockerless/agent/version.Version=${version}`;
  for (const program of wanted) {
    const code = await run(
      go,
      [
        "build",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        flags,
        "-o",
        join(root, "build", program),
        `./cmd/${program}`,
      ],
      { cwd: join(root, "agent"), env: { CGO_ENABLED: "0", GOTOOLCHAIN: "local" } },
    );
    if (code !== 0) {
      throw new Failure(`agent/cmd/${program} does not build: see above`);
    }
  }
  writeStamp(stamp, current);
}
