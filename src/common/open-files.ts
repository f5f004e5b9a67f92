import { readFileSync } from "node:fs";

/** A limit that most systems have at least, for where nobody tells. */
const usualLimit = 4_096;

/** Reads how many descriptors this process may have open: Node has raised that to the most that it may. */
export function openFilesLimit(): number {
  try {
    const [, soft] = /^Max open files +(\S+)/m.exec(readFileSync("/proc/self/limits", "ascii")) ?? [];
    return soft === "unlimited" ? Number.POSITIVE_INFINITY : Number(soft) || usualLimit;
  } catch {
    return usualLimit; // Not Linux.
  }
}
