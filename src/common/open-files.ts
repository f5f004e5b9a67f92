import { readFileSync } from "node:fs";

/** Fallback: a limit that most systems allow. */
const usualLimit = 4_096;

/** Reads how many descriptors this process may have open; Node has raised the soft limit to the maximum. */
export function openFilesLimit(): number {
  try {
    const [, soft] = /^Max open files +(\S+)/m.exec(readFileSync("/proc/self/limits", "ascii")) ?? [];
    return soft === "unlimited" ? Number.POSITIVE_INFINITY : Number(soft) || usualLimit;
  } catch {
    return usualLimit; // Not Linux.
  }
}
