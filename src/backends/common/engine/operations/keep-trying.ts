/** Work behind the answers that has to be done: of what it needs others for, something may be away for long. */
import { messageOf } from "../../../../common/errors.ts";
import type { EngineContext } from "../context.ts";

const firstPauseMs = 200;
const pauseGrowth = 5;
const longestPauseMs = 5 * 60_000;

/**
 * Does work again and again until it succeeds.
 *
 * @param what for the log, after "cannot"
 * @throws the reason of the shutdown, which ends it
 */
export async function keepTrying(
  { clock, logger, shutdown }: Pick<EngineContext, "clock" | "logger" | "shutdown">,
  what: string,
  work: () => Promise<void>,
): Promise<void> {
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * pauseGrowth, longestPauseMs)) {
    try {
      await work();
      return;
    } catch (error) {
      shutdown.throwIfAborted();
      logger.warn({ err: error }, `cannot ${what} yet: ${messageOf(error)}`);
      await clock.sleep(pauseMs, shutdown);
    }
  }
}
