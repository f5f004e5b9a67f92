/** The life of one request, below the SDKs: rate limiting, retries and logging. */
import type { PipelinePolicy, PipelineRequest, PipelineResponse } from "@azure/core-rest-pipeline";

import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import { getOrInsert } from "../../../common/get-or-insert.ts";
import { cloudCalled } from "../../../common/metrics/measure.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { after } from "../../../common/timers.ts";
import { componentLogger, type Logger } from "../../../common/logger.ts";
import { unevenPauseAfter } from "../../../common/pauses.ts";
import { type Rate, TokenBucket } from "../../cloud/calls/token-bucket.ts";
import { isThrottledStatus, isTransientFailure, isTransientStatus } from "./errors.ts";
import { defaultRates, paceOf, type RateName } from "./rates.ts";

/** Settings of {@link pacingPolicy}. */
export interface PacingOptions {
  readonly rates: Readonly<Partial<Record<RateName, Rate>>>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Aborts all requests. */
  readonly signal: AbortSignal;
}

/** Maximum attempts of a request that failed in Azure, or was lost. */
const transientAttempts = 4;
/** Time limit of a request, after which it counts as lost. */
const answerLimitMs = 30_000;
/** Maximum attempts of an unanswered request, as others wait for its end too. */
const unansweredAttempts = 2;
/** Maximum attempts of a throttled request; more, because others share the subscription's rates. */
const throttledAttempts = 12;
const delays = { firstMs: 200, longestMs: 10_000 };
/** Maximum `Retry-After` to wait for; longer ones fail the request, as Azure's windows last minutes. */
const longestRetryAfterMs = 120_000;

/**
 * A policy shared by the pipelines of all clients. Throttled requests are retried as late as Azure demands; lost ones
 * too, except a job's start, which Azure would perform twice: its caller first checks whether it was performed.
 */
export function pacingPolicy(options: PacingOptions): PipelinePolicy {
  const { clock } = options;
  const logger = componentLogger(options.logger, "azure");
  const buckets = new Map<RateName, TokenBucket>();
  const bucketOf = (name: RateName): TokenBucket =>
    getOrInsert(buckets, name, () => new TokenBucket(options.rates[name] ?? defaultRates[name], clock));
  return {
    name: "sockerless-pacing",
    async sendRequest(request, next) {
      const asked = request.abortSignal as AbortSignal | undefined;
      const signal = asked === undefined ? options.signal : AbortSignal.any([asked, options.signal]);
      const { rates, priority } = paceOf(request.method, request.url);
      const shared = rates.map(bucketOf);
      for (let attempt = 1; ; attempt++) {
        for (const bucket of shared) {
          await bucket.take(priority, signal);
        }
        const { response, failure } = await once(request, next, signal, { clock, logger });
        const isThrottled = response !== undefined && isThrottledStatus(response.status);
        const most = isThrottled ? throttledAttempts : attemptsAfter(request, response, failure);
        const pauseMs = pauseOf(response, attempt);
        if (attempt >= most || signal.aborted || pauseMs > longestRetryAfterMs) {
          if (response === undefined) {
            throw failure;
          }
          return response;
        }
        if (isThrottled) {
          for (const bucket of shared) {
            bucket.drain();
          }
        }
        await clock.sleep(pauseMs, signal);
      }
    },
  };
}

interface Outcome {
  readonly response: PipelineResponse | undefined;
  readonly failure: unknown;
}

/** Error for a request without a timely answer. */
class Unanswered extends Error {
  readonly code = "ETIMEDOUT";

  constructor() {
    super(`Azure has not answered within ${answerLimitMs / 1000} s`);
  }
}

async function once(
  request: PipelineRequest,
  next: (request: PipelineRequest) => Promise<PipelineResponse>,
  signal: AbortSignal,
  { clock, logger }: Pick<PacingOptions, "clock" | "logger">,
): Promise<Outcome> {
  const hung = new AbortController();
  using _limit = after(clock, answerLimitMs, () => hung.abort(new Unanswered()));
  request.abortSignal = AbortSignal.any([signal, hung.signal]);
  const unanswered = Promise.withResolvers<never>();
  using _hangs = onAbort(hung.signal, () => unanswered.reject(hung.signal.reason)); // Also if a login hangs.
  const begunMs = clock.nowMs();
  const { method, url } = request;
  const report = (status: number): void =>
    cloudCalled.report(() => ({
      ...actionOf(method, url),
      status,
      isThrottled: isThrottledStatus(status),
      seconds: (clock.nowMs() - begunMs) / 1000,
    }));
  const about = () => ({ method, path: new URL(url).pathname, durationMs: clock.nowMs() - begunMs });
  try {
    const response = await Promise.race([next(request), unanswered.promise]);
    const { status, headers } = response;
    const requestId = headers.get("x-ms-request-id");
    const level = isThrottledStatus(status) ? "info" : "debug";
    report(status);
    logger[level]({ ...about(), status, requestId }, status < 400 ? "called Azure" : "Azure refused a call");
    return { response, failure: undefined };
  } catch (failure) {
    report(0);
    logger.debug({ ...about(), reason: messageOf(failure) }, "a call has not reached Azure");
    return { response: undefined, failure };
  }
}

/** A request's kind, without resource names: `PUT jobs/executions` of `Microsoft.App`. */
function actionOf(method: string, url: string): { readonly service: string; readonly action: string } {
  const [, provided = ""] = /\/providers\/(.*)$/.exec(new URL(url).pathname) ?? [];
  const [service = "", ...segments] = provided.split("/");
  const types = segments.filter((_, index) => index % 2 === 0).join("/");
  return service === "" ? { service: "other", action: method } : { service, action: `${method} ${types}` };
}

/** Maximum attempts of a request with this outcome. */
function attemptsAfter(
  { method, url }: PipelineRequest,
  response: PipelineResponse | undefined,
  failure: unknown,
): number {
  if (failure instanceof Unanswered) {
    return isNotIdempotent(method, url) ? 1 : unansweredAttempts;
  }
  const isTransient =
    response === undefined ? isTransientFailure(failure) : isTransientStatus(response.status);
  return isTransient && !isNotIdempotent(method, url) ? transientAttempts : 1;
}

/** Whether Azure would execute a retried request twice. */
function isNotIdempotent(method: string, url: string): boolean {
  return method === "POST" && new URL(url).pathname.endsWith("/start");
}

/** The delay that Azure demands, or the one of {@link unevenPauseAfter}. */
function pauseOf(response: PipelineResponse | undefined, attempt: number): number {
  const said = Number(response?.headers.get("retry-after"));
  if (response !== undefined && response.status >= 400 && said > 0) {
    return said * 1000;
  }
  return unevenPauseAfter(attempt, delays);
}
