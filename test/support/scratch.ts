import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const made: string[] = [];
process.once("exit", () => {
  for (const each of made) {
    rmSync(each, { recursive: true, force: true });
  }
});

/** A new directory, removed when this process ends: after all hooks, whatever they leave in it. */
export function scratchDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "skl-"));
  made.push(directory);
  return directory;
}
