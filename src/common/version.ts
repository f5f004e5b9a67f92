import { readFileSync } from "node:fs";
import { join } from "node:path";

import { checkout } from "./built-programs.ts";

/** The version of sockerless, as in package.json. */
export const { version } = JSON.parse(readFileSync(join(checkout, "package.json"), "utf8")) as {
  readonly version: string;
};
