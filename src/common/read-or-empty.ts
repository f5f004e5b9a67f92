import { readFileSync } from "node:fs";

/** The content of a file; empty if it cannot be read, as that of a process that has ended. */
export function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
