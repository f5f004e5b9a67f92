/** One call of AWS from beginning to end: waits for its rate, is repeated where that helps, is logged. */
import type { Clock } from "../../../common/clock.ts";
import { componentLogger, type Logger } from "../../../common/logger.ts";
import { withCallFaultPoints } from "../../common/fault-points.ts";
import {
  type AwsCall,
  AwsError,
  type AwsServiceName,
  isRefusal,
  isThrottled,
  isTransient,
} from "./errors.ts";
import { paceOf, type RateName, ratesOf } from "./rates.ts";
import { type Rate, TokenBucket } from "./token-bucket.ts";

/** What all clients of the SDK have in common. */
export interface SdkClient {
  send(command: never, options?: { abortSignal?: AbortSignal }): Promise<unknown>;
  destroy(): void;
}

/** Makes a call; see {@link createCaller}. */
export type AwsCaller = (
  service: AwsServiceName,
  client: SdkClient,
  command: object,
  signal?: AbortSignal,
) => Promise<unknown>;

/** What a caller depends on. */
export interface CallerOptions {
  readonly region: string;
  readonly spot: boolean;
  readonly rates: Readonly<Partial<Record<RateName, Rate>>>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Ends every call. */
  readonly signal: AbortSignal;
}

/** A call that AWS itself failed, or that was lost, is made again so often. */
const transientAttempts = 4;
/** Done twice where they are made again after an answer was lost. */
const doneAnew: ReadonlySet<string> = new Set(["RegisterTaskDefinition"]);
/**
 * Once they are on their way these are not cut: what they make has a name that only their answers tell. Whoever has made
 * one may leave it, and come back for the answer: that is its signal's reason only where AWS has done nothing.
 */
const seenThrough: ReadonlySet<string> = new Set(["RunTask"]);
/** One that came too soon may wait longer: others share the account's rates. */
const throttledAttempts = 12;
const firstDelayMs = 100;
const longestDelayMs = 5_000;

/**
 * Makes calls at the account's rates, all services together.
 *
 * A throttled call is repeated whatever it is, and so is a lost one: those that create something carry a token or a name
 * that nothing else can have. What has neither is not repeated here: whoever asked looks first whether it is done.
 */
export function createCaller(options: CallerOptions): AwsCaller {
  const { clock } = options;
  const logger = componentLogger(options.logger, "aws");
  const defaults = ratesOf(options.region);
  const buckets = new Map<RateName, TokenBucket>();
  const bucketOf = (name: RateName): TokenBucket => {
    const known = buckets.get(name);
    if (known !== undefined) {
      return known;
    }
    const made = new TokenBucket(options.rates[name] ?? defaults[name], clock);
    buckets.set(name, made);
    return made;
  };

  const paced: AwsCaller = async (service, client, command, ended) => {
    const signal = ended === undefined ? options.signal : AbortSignal.any([ended, options.signal]);
    const call: AwsCall = { service, operation: operationOf(command) };
    const pace = paceOf(call.operation, options.spot);
    const shared = (pace?.rates ?? []).map(bucketOf);
    const isSeenThrough = seenThrough.has(call.operation);
    /** Of one that is seen through: the last failure after which AWS may have done it. */
    let doubt: AwsError | undefined;
    for (let attempt = 1; ; attempt++) {
      try {
        if (attempt > 1) {
          await clock.sleep(delayBefore(attempt - 1), signal);
        }
        for (const bucket of shared) {
          await bucket.take(pace?.priority ?? 0, signal);
        }
        signal.throwIfAborted();
      } catch (reason) {
        throw options.signal.aborted ? reason : (doubt ?? reason);
      }
      const cut = isSeenThrough ? options.signal : signal;
      const answer = await once(call, client, command, cut, clock, logger);
      if (!(answer instanceof AwsError)) {
        return answer;
      }
      if (isSeenThrough && !isRefusal(answer) && !isThrottled(answer)) {
        doubt = answer;
      }
      if (attempt >= attemptsAfter(answer) && !signal.aborted) {
        throw answer;
      }
      if (isThrottled(answer)) {
        for (const bucket of shared) {
          bucket.drain();
        }
      }
    }
  };
  return withCallFaultPoints(paced, (_service, _client, command) => `aws.${operationOf(command)}`);
}

/** @returns the answer, or the error */
async function once(
  call: AwsCall,
  client: SdkClient,
  command: object,
  signal: AbortSignal,
  clock: Clock,
  logger: Logger,
): Promise<unknown> {
  const begunMs = clock.nowMs();
  try {
    const answer = await client.send(command as never, { abortSignal: signal });
    const requestId = (answer as { $metadata?: { requestId?: string } }).$metadata?.requestId;
    logger.debug({ ...call, requestId, durationMs: clock.nowMs() - begunMs }, "called AWS");
    return answer;
  } catch (caught) {
    const error = new AwsError(call, caught);
    const { code, requestId, status } = error;
    // Many a refusal is an answer, such as that something does not exist yet: whoever asked says what it means.
    const level = isThrottled(error) ? "info" : "debug";
    logger[level](
      { ...call, code, requestId, status, durationMs: clock.nowMs() - begunMs, reason: error.message },
      "AWS refused a call",
    );
    return error;
  }
}

/** How often a call is made in all that failed like this. */
function attemptsAfter(error: AwsError): number {
  if (isThrottled(error)) {
    return throttledAttempts;
  }
  return isTransient(error) && !doneAnew.has(error.call.operation) ? transientAttempts : 1;
}

/** Doubles, and strays by half so that those who were refused together do not come back together. */
function delayBefore(attempt: number): number {
  const full = Math.min(longestDelayMs, firstDelayMs * 2 ** (attempt - 1));
  return full / 2 + Math.random() * (full / 2);
}

/** `RunTaskCommand` is AWS's `RunTask`. */
function operationOf(command: object): string {
  return command.constructor.name.replace(/Command$/, "");
}
