/** The record of what tests make outside of their directories: the check for what they leave behind goes by it. */
import { createHash } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/**
 * Records, before it is made, the name of an interface, a network namespace, a control group or a table of packet rules.
 *
 * @returns the name
 */
export function recordName(name: string): string {
  const record = join(tmpdir(), ".made");
  if (existsSync(record)) {
    writeFileSync(join(record, name), "");
  }
  return name;
}

/** Records an instance of sockerless before it starts: what it makes is named by a digest of its state directory's path. */
export function recordInstance(stateDir: string): void {
  recordName(createHash("sha256").update(resolve(stateDir)).digest("hex").slice(0, 12));
}
