/** The commit that the program was made from. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { checkout } from "./built-programs.ts";

/** A commit, with the date of its making as YYYY-MM-DD. */
export interface Revision {
  readonly commit: string;
  readonly date: string;
}

/** The file in which a package says it, from the checkout's directory. */
export const revisionFile = "build/revision.json";

/** The commit, which a package has in a file and a clone in its history; undefined if neither is there. */
export function revision(): Revision | undefined {
  const file = join(checkout, revisionFile);
  if (existsSync(file)) {
    return JSON.parse(readFileSync(file, "utf8")) as Revision;
  }
  if (!existsSync(join(checkout, ".git"))) {
    return undefined;
  }
  try {
    const [commit = "", date = ""] = execFileSync("git", ["log", "-1", "--format=%H %cs"], {
      cwd: checkout,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    })
      .trim()
      .split(" ");
    return { commit, date };
  } catch {
    return undefined; // No git on this machine, or the clone is another user's.
  }
}
