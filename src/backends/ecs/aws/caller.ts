/** The life of one AWS call: rate limiting, retries and logging. */
import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import { getOrInsert } from "../../../common/get-or-insert.ts";
import { componentLogger, type Logger } from "../../../common/logger.ts";
import { cloudCalled } from "../../../common/metrics/measure.ts";
import { unevenPauseAfter } from "../../../common/pauses.ts";
import { withCallFaultPoints } from "../../driver/fault-points.ts";
import { isThrottled, isUndone } from "../../cloud/contract/cloud-error.ts";
import { Denials } from "../../cloud/calls/denials.ts";
import { type AwsCall, AwsError, type AwsServiceName, isTransient, mayHaveNewCredentials } from "./errors.ts";
import { isSpot, paceOf, type RateName, ratesOf } from "./rates.ts";
import { type Rate, TokenBucket } from "../../cloud/calls/token-bucket.ts";

/** The common part of the SDK's clients. */
export interface SdkClient {
  send(command: never, options?: { abortSignal?: AbortSignal }): Promise<unknown>;
  destroy(): void;
  readonly config: {
    /** Caches credentials, for ever if they have no expiry; `forceRefresh` reloads them. */
    credentials(options: { readonly forceRefresh: true }): Promise<unknown>;
  };
}

/** Makes a call as described at {@link createCaller}. */
export type AwsCaller = (
  service: AwsServiceName,
  client: SdkClient,
  command: object,
  signal?: AbortSignal,
) => Promise<unknown>;

/** Settings of {@link createCaller}. */
export interface CallerOptions {
  readonly region: string;
  readonly rates: Readonly<Partial<Record<RateName, Rate>>>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Aborts all calls. */
  readonly signal: AbortSignal;
}

/** Maximum attempts of a call that failed in AWS, or whose answer was lost. */
const transientAttempts = 4;
/** Calls that AWS would execute twice if retried after a lost answer. */
const notIdempotent: ReadonlySet<string> = new Set(["RegisterTaskDefinition"]);
/**
 * Calls that are never aborted once sent, because only their answers name what they create. A caller may leave one and
 * come back for its answer; its signal's reason is thrown only if AWS has done nothing.
 */
const seenThrough: ReadonlySet<string> = new Set(["RunTask"]);
/** Maximum attempts of a throttled call; more, because others share the account's rates. */
const throttledAttempts = 12;
const delays = { firstMs: 100, longestMs: 5_000 };

/**
 * Makes calls at the account's rates, shared by all services.
 *
 * Every throttled call is retried, and so is one whose answer was lost: calls that create something have a token or a
 * unique name. A lost call with neither is not retried here: its caller checks first whether it took effect. A call
 * that AWS refuses because its credentials have expired or were deleted is retried once with reloaded credentials.
 */
export function createCaller(options: CallerOptions): AwsCaller {
  const { clock } = options;
  const logger = componentLogger(options.logger, "aws");
  const defaults = ratesOf(options.region);
  const denials = new Denials(logger);
  const buckets = new Map<RateName, TokenBucket>();
  const bucketOf = (name: RateName): TokenBucket =>
    getOrInsert(buckets, name, () => new TokenBucket(options.rates[name] ?? defaults[name], clock));

  const paced: AwsCaller = async (service, client, command, ended) => {
    const signal = ended === undefined ? options.signal : AbortSignal.any([ended, options.signal]);
    const call: AwsCall = { service, operation: operationOf(command) };
    const pace = paceOf(call.operation, asksSpot(command));
    const shared = (pace?.rates ?? []).map(bucketOf);
    const isSeenThrough = seenThrough.has(call.operation);
    /** The last failure of a call in {@link seenThrough} after which it may have taken effect. */
    let doubt: AwsError | undefined;
    let isRenewed = false;
    for (let attempt = 1; ; attempt++) {
      try {
        if (attempt > 1) {
          await clock.sleep(unevenPauseAfter(attempt - 1, delays), signal);
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
      const name = `${service}: ${call.operation}`;
      if (!(answer instanceof AwsError)) {
        denials.allowed(name);
        return answer;
      }
      denials.failed(name, answer);
      if (isSeenThrough && !isUndone(answer)) {
        doubt = answer;
      }
      if (!isRenewed && mayHaveNewCredentials(answer) && !signal.aborted) {
        isRenewed = true;
        if (await renewCredentials(client, logger)) {
          continue;
        }
      }
      if (attempt >= attemptsAfter(answer) && !signal.aborted) {
        throw doubt ?? answer; // A refusal alone would mean that nothing was created.
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
    const durationMs = clock.nowMs() - begunMs;
    logger.debug({ ...call, requestId, durationMs }, "called AWS");
    reportCall(call, { status: 200, isThrottled: false, durationMs });
    return answer;
  } catch (caught) {
    const error = new AwsError(call, caught);
    const { code, requestId, status } = error;
    // A refusal is often the expected answer, for example that something does not exist yet: the caller decides.
    const level = isThrottled(error) ? "info" : "debug";
    const durationMs = clock.nowMs() - begunMs;
    logger[level](
      { ...call, code, requestId, status, durationMs, reason: error.message },
      "AWS refused a call",
    );
    reportCall(call, { status, isThrottled: isThrottled(error), durationMs });
    return error;
  }
}

/** Reports a call that has ended, for metrics. */
function reportCall(
  { service, operation }: AwsCall,
  outcome: { readonly status: number; readonly isThrottled: boolean; readonly durationMs: number },
): void {
  const { durationMs, ...told } = outcome;
  cloudCalled.report(() => ({ service, action: operation, ...told, seconds: durationMs / 1000 }));
}

/** Reloads a client's credentials. @returns whether that succeeded */
async function renewCredentials({ config }: SdkClient, logger: Logger): Promise<boolean> {
  try {
    await config.credentials({ forceRefresh: true });
    return true;
  } catch (error) {
    logger.warn(
      { err: error },
      `credentials that AWS does not take any more cannot be read again: ${messageOf(error)}`,
    );
    return false;
  }
}

/** Maximum attempts of a call with this failure. */
function attemptsAfter(error: AwsError): number {
  if (isThrottled(error)) {
    return throttledAttempts;
  }
  return isTransient(error) && !notIdempotent.has(error.call.operation) ? transientAttempts : 1;
}

/** Whether a command is a `RunTask` for Spot capacity, whose launches have a rate of their own. */
function asksSpot(command: object): boolean {
  const { input } = command as { readonly input?: { readonly capacityProviderStrategy?: unknown } };
  const strategy = input?.capacityProviderStrategy;
  return Array.isArray(strategy) && strategy.some(isSpot);
}

/** `RunTaskCommand` is AWS's `RunTask`. */
function operationOf(command: object): string {
  return command.constructor.name.replace(/Command$/, "");
}
