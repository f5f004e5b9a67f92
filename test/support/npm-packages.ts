/** Packages of test/programs/npm, outside the checkout. */
import { join } from "node:path";

import { checkout } from "./daemon.ts";
import { type FoundPackages, installPackages } from "./installed-packages.ts";

const folder = join(checkout, "test/programs/npm");

/** A directory that has them in `node_modules`, without what their scripts would compile. */
export function findNpmPackages(): Promise<FoundPackages> {
  const copy = `cp '${folder}'/package*.json . && exec npm ci --ignore-scripts --no-audit --no-fund --loglevel=error`;
  return installPackages("npm", join(folder, "package-lock.json"), (directory) => [
    "sh",
    "-ec",
    `cd '${directory}' && ${copy}`,
  ]);
}
