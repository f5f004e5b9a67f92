/** Telling cheaply whether what was built is still what the sources say: by name, size and time of each file. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { root } from "./run.mjs";

/** A fingerprint of files and directories of the checkout; those that do not exist count as such. */
export function fingerprint(paths) {
  const hash = createHash("sha1");
  const visit = (path) => {
    const stat = statSync(join(root, path), { throwIfNoEntry: false });
    if (stat?.isDirectory()) {
      for (const name of readdirSync(join(root, path)).sort()) {
        visit(join(path, name));
      }
    } else {
      hash.update(`${path} ${stat?.size} ${stat?.mtimeMs}\n`);
    }
  };
  for (const path of paths) {
    visit(path);
  }
  return hash.digest("hex");
}

/** True if a stamp file holds this text. */
export function isStamped(stamp, text) {
  const file = join(root, stamp);
  return existsSync(file) && readFileSync(file, "utf8") === text;
}

/** Writes a stamp file. */
export function writeStamp(stamp, text) {
  const file = join(root, stamp);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}
