import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import type { Sweep } from "../contract/platform.ts";

/** Delay of the first sweep, as the first containers take precedence. */
const firstMs = 5 * 60_000;
const intervalMs = 6 * 60 * 60_000;

/**
 * Periodically removes unused resources, until closed.
 *
 * @param isKnown whether the state is complete; otherwise nothing is removed
 */
export function keepSweeping(
  sweeps: readonly Sweep[],
  clock: Clock,
  logger: Logger,
  isKnown: () => boolean,
): { close(): Promise<void> } {
  const closed = new AbortController();
  const clear = async ({ what, run }: Sweep): Promise<void> => {
    try {
      await run(closed.signal);
    } catch (error) {
      if (!closed.signal.aborted) {
        logger.warn({ err: error }, `cannot clear ${what} away: ${messageOf(error)}`);
      }
    }
  };
  const run = async (): Promise<void> => {
    for (let pauseMs = firstMs; !closed.signal.aborted; pauseMs = intervalMs) {
      await clock.sleep(pauseMs, closed.signal).catch(() => undefined);
      for (const sweep of sweeps) {
        if (isKnown() && !closed.signal.aborted) {
          await clear(sweep);
        }
      }
    }
  };
  const running = run();
  return {
    async close() {
      closed.abort();
      await running;
    },
  };
}
