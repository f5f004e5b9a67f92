import { createHash } from "node:crypto";

const legal = /^[A-Za-z0-9_-]{1,251}$/;
const longestKept = 200;

/**
 * The name of a Docker volume in a task definition: `vol-<name>`. AWS takes letters, digits, `_` and `-`; a name with
 * other characters, or one that is too long, has a hash that keeps it apart from its like.
 */
export function taskVolumeName(name: string): string {
  if (legal.test(name)) {
    return `vol-${name}`;
  }
  const hash = createHash("sha256").update(name).digest("hex").slice(0, 12);
  return `vol-${name.replaceAll(/[^A-Za-z0-9_-]/g, "_").slice(0, longestKept)}-${hash}`;
}
