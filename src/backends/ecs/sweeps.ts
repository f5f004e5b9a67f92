import type { Clock } from "../../common/clock.ts";
import { messageOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { Definitions } from "./definitions/definitions.ts";

/** Not at once: those who wait for their first container come first. */
const FIRST_MS = 5 * 60_000;
const INTERVAL_MS = 6 * 60 * 60_000;

/** Clears unused task definitions away now and then, until it is closed. */
export function keepSweeping(
  definitions: Definitions,
  clock: Clock,
  logger: Logger,
): { close(): Promise<void> } {
  const closed = new AbortController();
  const run = async (): Promise<void> => {
    for (let pauseMs = FIRST_MS; !closed.signal.aborted; pauseMs = INTERVAL_MS) {
      try {
        await clock.sleep(pauseMs, closed.signal);
        await definitions.sweep(closed.signal);
      } catch (error) {
        if (!closed.signal.aborted) {
          logger.warn({ err: error }, `cannot clear task definitions away: ${messageOf(error)}`);
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
