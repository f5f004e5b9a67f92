/** One request from beginning to end, below the SDKs: waits for its rate, is repeated where that helps, is logged. */
import type { PipelinePolicy, PipelineRequest, PipelineResponse } from "@azure/core-rest-pipeline";

import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import { cloudCalled } from "../../../common/metrics/measure.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { after } from "../../../common/timers.ts";
import { componentLogger, type Logger } from "../../../common/logger.ts";
import { pauseAfter } from "../../../common/pauses.ts";
import { type Rate, TokenBucket } from "../../cloud/calls/token-bucket.ts";
import { isThrottledStatus, isTransientFailure, isTransientStatus } from "./errors.ts";
import { defaultRates, paceOf, type RateName } from "./rates.ts";

/** Settings of {@link pacingPolicy}. */
export interface PacingOptions {
  readonly rates: Readonly<Partial<Record<RateName, Rate>>>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Ends every request. */
  readonly signal: AbortSignal;
}

/** Attempts at a request that Azure itself failed, or that was lost. */
const transientAttempts = 4;
/** A request that Azure does not answer within this time is lost. */
const answerLimitMs = 30_000;
/** Attempts at a request that was not answered: others wait for its end, too. */
const unansweredAttempts = 2;
/** Attempts at a request that was throttled: more, because others share the subscription's rates. */
const throttledAttempts = 12;
const delays = { firstMs: 200, longestMs: 10_000 };
/** A longer `Retry-After` is told to whoever asked: Azure's windows are of minutes. */
const longestRetryAfterMs = 120_000;

/**
 * A policy for the pipelines of all clients together. Each throttled request is repeated, as late as Azure says; so is a
 * lost one, but for a job's start, which Azure does twice when it is asked twice: its caller looks first whether it is done.
 */
export function pacingPolicy(options: PacingOptions): PipelinePolicy {
  const { clock } = options;
  const logger = componentLogger(options.logger, "azure");
  const buckets = new Map<RateName, TokenBucket>();
  const bucketOf = (name: RateName): TokenBucket => {
    const known = buckets.get(name) ?? new TokenBucket(options.rates[name] ?? defaultRates[name], clock);
    buckets.set(name, known);
    return known;
  };
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

/** A request was not answered in time. */
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
  using _hangs = onAbort(hung.signal, () => unanswered.reject(hung.signal.reason)); // Also where a login hangs.
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

/** A request without the names in its path: `PUT jobs/executions` of `Microsoft.App`. */
function actionOf(method: string, url: string): { readonly service: string; readonly action: string } {
  const [, provided = ""] = /\/providers\/(.*)$/.exec(new URL(url).pathname) ?? [];
  const [service = "", ...segments] = provided.split("/");
  const types = segments.filter((_, index) => index % 2 === 0).join("/");
  return service === "" ? { service: "other", action: method } : { service, action: `${method} ${types}` };
}

/** Attempts in all at a request that ended like this. */
function attemptsAfter(
  { method, url }: PipelineRequest,
  response: PipelineResponse | undefined,
  failure: unknown,
): number {
  if (failure instanceof Unanswered) {
    return isDoneAnew(method, url) ? 1 : unansweredAttempts;
  }
  const isTransient =
    response === undefined ? isTransientFailure(failure) : isTransientStatus(response.status);
  return isTransient && !isDoneAnew(method, url) ? transientAttempts : 1;
}

/** Whether Azure does a request twice that is repeated after a lost answer. */
function isDoneAnew(method: string, url: string): boolean {
  return method === "POST" && new URL(url).pathname.endsWith("/start");
}

/** As Azure says; else it doubles, and strays by half so that requests refused together do not return together. */
function pauseOf(response: PipelineResponse | undefined, attempt: number): number {
  const said = Number(response?.headers.get("retry-after"));
  if (response !== undefined && response.status >= 400 && said > 0) {
    return said * 1000;
  }
  const full = pauseAfter(attempt, delays);
  return full / 2 + Math.random() * (full / 2);
}
