import { createHash } from "node:crypto";

const legal = /^[A-Za-z0-9_-]{1,251}$/;
const longestKept = 200;

/**
 * The name of a Docker volume in a task definition: `vol-<name>`. AWS accepts letters, digits, `_` and `-`; a name with
 * other characters, or one that is too long, gets a hash to distinguish it from similar ones.
 */
export function taskVolumeName(name: string): string {
  if (legal.test(name)) {
    return `vol-${name}`;
  }
  const hash = createHash("sha256").update(name).digest("hex").slice(0, 12);
  return `vol-${name.replaceAll(/[^A-Za-z0-9_-]/g, "_").slice(0, longestKept)}-${hash}`;
}
