/** Child processes: their ends, and pauses before those that crashed are started again. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";

import { pauseAfter } from "./pauses.ts";

/** Run time after which earlier crashes of a process no longer count. */
const stableAfterMs = 60_000;

/** Counts the crashes of a process and its successors. */
export class RestartPauses {
  #startedAt = Date.now();
  #crashes = 0;

  /** Records that the process was started. */
  started(): void {
    this.#startedAt = Date.now();
  }

  /** Counts a crash. @returns milliseconds to wait before the restart */
  crashed(): number {
    this.#crashes = Date.now() - this.#startedAt > stableAfterMs ? 1 : this.#crashes + 1;
    return pauseAfter(this.#crashes, { firstMs: 100, longestMs: 10_000 });
  }
}

/** Whether a child has ended, or could not be spawned: then no "exit" follows. */
export function hasExited(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
}

/** The end of a child that {@link hasExited}, in words. */
export function endOf({ signalCode, exitCode }: ChildProcess): string {
  return signalCode ?? (exitCode === null ? "it could not be started" : `exit code ${exitCode}`);
}

/** Waits until a child has ended. */
export async function untilExit(child: ChildProcess): Promise<void> {
  if (!hasExited(child)) {
    await once(child, "exit");
  }
}
