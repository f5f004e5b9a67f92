/**
 * `node scripts/prepare/build-builder.mjs [--check] [--supervised]`: the builder, which is compiled by the first build that
 * needs it, as BuildKit's libraries take minutes. With `--check` nothing is compiled, and exit code 3 says that it would have to
 * be. With `--supervised` all of it ends with its standard input.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";

import { fingerprint, isStamped, writeStamp } from "./fingerprint.mjs";
import { compileBuilder } from "./compile-builder.mjs";
import { goContracts } from "./go-program.mjs";
import { endWithStandardInput } from "./lifeline.mjs";
import { exclusively } from "./lock.mjs";
import { main } from "./prepare.mjs";
import { announce, root } from "./run.mjs";

const program = join(root, "build/sockerless-builder");
const stamp = "build/.builder-inputs";

if (process.argv.includes("--supervised")) {
  endWithStandardInput();
}

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
  announce("building the builder, which takes minutes the first time");
  await compileBuilder(program);
  writeStamp(stamp, current);
}
