/** The npm packages, as package-lock.json names them. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { isStamped, writeStamp } from "./fingerprint.mjs";
import { announce, Failure, root, run } from "./run.mjs";

const stamp = "node_modules/.sockerless-lock";

/** Installs the packages unless those of this lock file are there. */
export async function ensureNpmPackages() {
  const lock = readFileSync(join(root, "package-lock.json"), "utf8");
  const hash = createHash("sha256").update(lock).digest("hex");
  if (isStamped(stamp, hash)) {
    return;
  }
  if (!matchesInstalled(JSON.parse(lock).packages)) {
    announce("installing npm packages");
    if ((await run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"])) !== 0) {
      throw new Failure("npm ci failed: see above, then try again");
    }
  }
  writeStamp(stamp, hash);
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
