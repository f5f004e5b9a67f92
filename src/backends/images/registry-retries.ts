/** Further tries where a registry fails, after pauses that grow. */
import type { Clock } from "../../common/clock.ts";
import { pauseAfter } from "../../common/pauses.ts";
import type { ReportProgress } from "./progress.ts";
import { isWorthRetrying } from "./registry/registry-errors.ts";

const maxAttempts = 5;
const growth = { firstMs: 1000, longestMs: 8000 };

/** Parts of a transfer that its tries work with. */
export interface RetryContext {
  readonly clock: Clock;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

/**
 * Does work until it succeeds, or fails for good. The seconds to the next try are counted down, as Docker shows it.
 *
 * @param id layer that the user is told of; empty: none
 * @throws what the work throws; the signal's reason
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
