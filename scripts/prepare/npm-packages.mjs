/** The npm packages, as package-lock.json names them, with the changes of `patches/`. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { isStamped, writeStamp } from "./fingerprint.mjs";
import { announce, Failure, root, run } from "./run.mjs";

const stamp = "node_modules/.sockerless-lock";

/** Installs the packages unless those of this lock file are there, and patches them. */
export async function ensureNpmPackages() {
  const lock = readFileSync(join(root, "package-lock.json"), "utf8");
  const hash = createHash("sha256").update(lock);
  for (const name of readdirSync(join(root, "patches")).sort()) {
    hash.update(readFileSync(join(root, "patches", name)));
  }
  const wanted = hash.digest("hex");
  if (isStamped(stamp, wanted)) {
    return;
  }
  if (!matchesInstalled(JSON.parse(lock).packages) || !(await arePatched())) {
    announce("installing npm packages");
    if ((await run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"])) !== 0) {
      throw new Failure("npm ci failed: see above, then try again");
    }
    if (!(await arePatched())) {
      throw new Failure("an npm package does not take its patch: see above");
    }
  }
  writeStamp(stamp, wanted);
}

/** Applies the patches that are not applied yet. @returns whether all are */
async function arePatched() {
  const program = join(root, "node_modules/patch-package/index.js");
  return (await run(process.execPath, [program, "--error-on-fail"])) === 0;
}

/** True if npm's own record says that just these versions are installed, as after `npm install`. */
function matchesInstalled(wanted) {
  const record = join(root, "node_modules/.package-lock.json");
  if (!existsSync(record)) {
    return false;
  }
  const installed = JSON.parse(readFileSync(record, "utf8")).packages;
  const matches = (path) => installed[path]?.version === wanted[path].version;
  return Object.keys(wanted).every((path) => path === "" || wanted[path].optional === true || matches(path));
}
