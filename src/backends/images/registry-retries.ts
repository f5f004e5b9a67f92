/** Retries after failures of a registry, with growing pauses. */
import type { Clock } from "../../common/clock.ts";
import { pauseAfter } from "../../common/pauses.ts";
import type { ReportProgress } from "./progress.ts";
import { isWorthRetrying } from "./registry/registry-errors.ts";

const maxAttempts = 5;
const growth = { firstMs: 1000, longestMs: 8000 };

/** Parts of a transfer that its retries need. */
export interface RetryContext {
  readonly clock: Clock;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

/**
 * Runs work until it succeeds, or fails permanently. The seconds until the next attempt are counted down, as in Docker.
 *
 * @param id layer shown to the user; empty for none
 * @throws the work's error; the signal's reason
 */
export async function withRetries<T>(
  id: string,
  { clock, report, signal }: RetryContext,
  work: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (attempt === maxAttempts || !isWorthRetrying(error)) {
        throw error;
      }
    }
    for (let left = pauseAfter(attempt, growth) / 1000; left > 0; left--) {
      report({ id, status: `Retrying in ${left} second${left === 1 ? "" : "s"}` });
      await clock.sleep(1000, signal);
    }
  }
}
