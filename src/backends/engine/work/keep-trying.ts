/** Retries necessary background work while services that it needs are unavailable. */
import { messageOf } from "../../../common/errors.ts";
import type { EngineContext } from "../context.ts";
import { pauseAfter } from "../../../common/pauses.ts";

const pauses = { firstMs: 200, longestMs: 5 * 60_000, factor: 5 };

/**
 * Retries work until it succeeds.
 *
 * @param what for the log, after "cannot"
 * @param mayPass whether a failure may be transient; default: each
 * @throws the reason of the shutdown, and a permanent failure
 */
export async function keepTrying(
  { clock, logger, shutdown }: Pick<EngineContext, "clock" | "logger" | "shutdown">,
  what: string,
  work: () => Promise<void>,
  mayPass: (error: unknown) => boolean = () => true,
): Promise<void> {
  for (let failures = 1; ; failures++) {
    try {
      await work();
      return;
    } catch (error) {
      shutdown.throwIfAborted();
      if (!mayPass(error)) {
        throw error;
      }
      logger.warn({ err: error }, `cannot ${what} yet: ${messageOf(error)}`);
      await clock.sleep(pauseAfter(failures, pauses), shutdown);
    }
  }
}
