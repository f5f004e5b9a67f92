/** src/ and test/ compiled into dist/, as worker threads need no loader then, and the programs bundled. */
import { existsSync, readdirSync, rmdirSync, unlinkSync } from "node:fs";
import { join } from "node:path";

import { bundle } from "./bundle.mjs";
import { fingerprint, isStamped, writeStamp } from "./fingerprint.mjs";
import { announce, Failure, root, run } from "./run.mjs";

const inputs = ["src", "test", "tsconfig.json", "package-lock.json", "patches", "scripts/prepare/bundle.mjs"];
const stamp = "dist/.inputs";

/** Compiles unless nothing has changed. */
export async function buildTypeScript() {
  const current = fingerprint(inputs);
  if (isStamped(stamp, current)) {
    return;
  }
  announce("compiling TypeScript");
  const code = await run(process.execPath, [join(root, "node_modules/typescript/bin/tsc")]);
  if (existsSync(join(root, "dist"))) {
    removeOrphans("");
  }
  if (code !== 0) {
    throw new Failure("TypeScript does not compile: see above");
  }
  await bundle();
  writeStamp(stamp, current);
}

/** Deletes what was compiled from sources that are gone, so that no test runs that was deleted. */
function removeOrphans(directory) {
  for (const entry of readdirSync(join(root, "dist", directory), { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.name.startsWith(".") || path === "bundle") {
      continue; // The stamp, the compiler's and Node's own caches, and what is bundled anew.
    }
    if (entry.isDirectory()) {
      removeOrphans(path);
    } else if (
      !existsSync(join(root, path)) &&
      !existsSync(join(root, path.replace(/\.js(\.map)?$/, ".ts")))
    ) {
      unlinkSync(join(root, "dist", path));
    }
  }
  if (directory !== "" && readdirSync(join(root, "dist", directory)).length === 0) {
    rmdirSync(join(root, "dist", directory));
  }
}
