/** A Node that is new enough, whichever one runs this script. */
import { existsSync } from "node:fs";
import { join } from "node:path";

import { Failure, findProgram, isAtLeast, outputOf, root } from "./run.mjs";

/** The first version whose server chooses per request whether to upgrade, which hijacked streams need. */
const needed = "24.9";

/**
 * The path of a fitting Node: the one among the npm packages, else the one on PATH.
 *
 * @throws Failure
 */
export async function findNode() {
  for (const candidate of [join(root, "node_modules/node/bin/node"), findProgram("node")]) {
    if (candidate !== undefined && existsSync(candidate)) {
      const version = (await outputOf(candidate, ["--version"]))?.trim().replace(/^v/, "");
      if (version !== undefined && isAtLeast(version, needed)) {
        return candidate;
      }
    }
  }
  throw new Failure(
    `needs Node ${needed} or newer: put one on PATH (npm could not install its package "node")`,
  );
}
