/** Steps of a start while AWS itself fails, cannot be reached, or is asked too much: the same step succeeds later. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { AwsError, isRefusal, isThrottled } from "../aws/errors.ts";
import { type StartLimit, StartTimeout } from "./start-limit.ts";

/** What steps are repeated with. */
export interface RideOutOptions {
  readonly limit: Pick<StartLimit, "signal">;
  readonly clock: Clock;
  readonly logger: Logger;
}

const firstPauseMs = 1_000;
const longestPauseMs = 10_000;

/**
 * Does a step of a container's start again and again until AWS has answered it, as long as the start may take. The log
 * says what it waits for.
 *
 * @param step may be done again
 * @throws system: the time is over, with what AWS has said last; what the step throws
 */
export async function rideOut<T>(
  containerId: string,
  step: () => Promise<T>,
  { limit, clock, logger }: RideOutOptions,
): Promise<T> {
  let told = "";
  let last: AwsError | undefined;
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
    try {
      return await step();
    } catch (error) {
      const passing = passingTrouble(error);
      if (passing === undefined) {
        throw last === undefined ? error : endOf(limit.signal, error, last);
      }
      last = passing;
      if (passing.message !== told) {
        told = passing.message;
        logger.warn({ container: containerId, err: passing }, `a container waits to be started: ${told}`);
      }
    }
    try {
      await clock.sleep(pauseMs, limit.signal);
    } catch (error) {
      throw endOf(limit.signal, error, last);
    }
  }
}

/** Whether AWS may have done what it was asked, although it has not said so. */
export function mayBeDone(error: unknown): boolean {
  const trouble = passingTrouble(error);
  return trouble !== undefined && !isThrottled(trouble);
}

/** AWS's trouble, or the way's, which passes; undefined: it is another. */
function passingTrouble(error: unknown): AwsError | undefined {
  const cause = error instanceof AwsError ? error : error instanceof Error ? error.cause : undefined;
  return cause instanceof AwsError && !isRefusal(cause) ? cause : undefined;
}

/** A start whose time is over names what AWS has said last. */
function endOf(signal: AbortSignal, error: unknown, last: AwsError): unknown {
  return signal.reason instanceof StartTimeout
    ? systemError(`${messageOf(signal.reason)}: ${last.message}`, last)
    : error;
}
