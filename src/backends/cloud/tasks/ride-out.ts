/** Retries steps of a start while the cloud fails, is unreachable, throttles, or refuses for a transient reason. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { CloudError, isRefusal, isThrottled } from "../contract/cloud-error.ts";
import type { Prospect } from "../contract/start-prospect.ts";
import { PassingFailure } from "./task-end.ts";
import type { StartTries } from "./start-tries.ts";
import { type StartLimit, StartTimeout } from "./start-limit.ts";
import { pauseAfter } from "../../../common/pauses.ts";

/** Dependencies of retried steps. */
export interface RideOutOptions {
  readonly limit: Pick<StartLimit, "signal">;
  readonly tries: StartTries;
  readonly clock: Clock;
  readonly logger: Logger;
}

const pauses = { firstMs: 1_000, longestMs: 10_000 };
/** Only the request for a task waits for capacity. */
const goesOnAfter: ReadonlySet<Prospect> = new Set(["passes", "capacity", "denied"]);

/**
 * Retries a step of a container's start until the cloud has answered, within the start's time. The log and the start's
 * status show what it waits for.
 *
 * @param step must be repeatable
 * @throws system: the time is over, with the cloud's last words; the step's errors
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
      const passing = transientFailure(error);
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

/** Whether an unanswered request may have taken effect. */
export function mayBeDone(error: unknown): boolean {
  const trouble = transientFailure(error);
  return trouble !== undefined && !isThrottled(trouble);
}

/** The transient failure of the cloud or the connection; undefined for any other failure. */
function transientFailure(error: unknown): CloudError | undefined {
  const cause = cloudErrorOf(error);
  return cause !== undefined && !isRefusal(cause) ? cause : undefined;
}

function cloudErrorOf(error: unknown): CloudError | undefined {
  const cause = error instanceof CloudError ? error : error instanceof Error ? error.cause : undefined;
  return cause instanceof CloudError ? cause : undefined;
}

/** The error of a start whose time is over, with the cloud's last words. */
function endOf(signal: AbortSignal, error: unknown, last: CloudError): unknown {
  return signal.reason instanceof StartTimeout
    ? systemError(`${messageOf(signal.reason)}: ${last.message}`, last)
    : error;
}
