/**
 * Steps of a start while the cloud itself fails, cannot be reached, is asked too much, or refuses them for a reason that may
 * pass: the same step succeeds later.
 */
import type { Clock } from "../../../common/clock.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { CloudError, isRefusal, isThrottled } from "../contract/cloud-error.ts";
import type { Prospect } from "../contract/start-prospect.ts";
import { PassingFailure } from "./task-end.ts";
import type { StartTries } from "./start-tries.ts";
import { type StartLimit, StartTimeout } from "./start-limit.ts";
import { pauseAfter } from "../../../common/pauses.ts";

/** Parts of a start that its steps are repeated with. */
export interface RideOutOptions {
  readonly limit: Pick<StartLimit, "signal">;
  readonly tries: StartTries;
  readonly clock: Clock;
  readonly logger: Logger;
}

const pauses = { firstMs: 1_000, longestMs: 10_000 };
/** A wait for room is the request's for a task alone. */
const goesOnAfter: ReadonlySet<Prospect> = new Set(["passes", "capacity", "denied"]);

/**
 * Does a step of a container's start again and again until the cloud has answered it, as long as the start may take. The log
 * and the start's wait say what for.
 *
 * @param step may be done again
 * @throws system: the time is over, with what the cloud has said last; what the step throws
 */
export async function rideOut<T>(
  containerId: string,
  step: () => Promise<T>,
  { limit, tries, clock, logger }: RideOutOptions,
): Promise<T> {
  let told = "";
  let last: CloudError | undefined;
  for (let failures = 1; ; failures++) {
    try {
      const made = await step();
      if (told !== "") {
        tries.goesOn();
      }
      return made;
    } catch (error) {
      const refused = error instanceof PassingFailure ? undefined : cloudErrorOf(error);
      if (refused !== undefined && isRefusal(refused) && goesOnAfter.has(refused.prospect)) {
        await tries.pause(refused.prospect, refused.message, error, limit.signal);
        tries.goesOn();
        continue;
      }
      const passing = passingTrouble(error);
      if (passing === undefined) {
        throw last === undefined ? error : endOf(limit.signal, error, last);
      }
      last = passing;
      if (passing.message !== told) {
        told = passing.message;
        logger.warn({ container: containerId, err: passing }, `a container waits to be started: ${told}`);
        tries.waits(told);
      }
    }
    try {
      await clock.sleep(pauseAfter(failures, pauses), limit.signal);
    } catch (error) {
      throw endOf(limit.signal, error, last);
    }
  }
}

/** Whether the cloud may have done what it was asked, although it has not said so. */
export function mayBeDone(error: unknown): boolean {
  const trouble = passingTrouble(error);
  return trouble !== undefined && !isThrottled(trouble);
}

/** The failure of the cloud, or of the way to it, that passes; undefined: it is another failure. */
function passingTrouble(error: unknown): CloudError | undefined {
  const cause = cloudErrorOf(error);
  return cause !== undefined && !isRefusal(cause) ? cause : undefined;
}

function cloudErrorOf(error: unknown): CloudError | undefined {
  const cause = error instanceof CloudError ? error : error instanceof Error ? error.cause : undefined;
  return cause instanceof CloudError ? cause : undefined;
}

/** A start whose time is over names what the cloud has said last. */
function endOf(signal: AbortSignal, error: unknown, last: CloudError): unknown {
  return signal.reason instanceof StartTimeout
    ? systemError(`${messageOf(signal.reason)}: ${last.message}`, last)
    : error;
}
