/**
 * Retries of calls whose backend died before it answered, as a killed backend is restarted: for ten seconds, whichever
 * backend dies. Calls that their proto marks as idempotent or without side effects are retried at once, and calls with
 * an idempotency token once a backend answers. Whether any other call took effect is unknown, so it fails, unless its
 * connection was still being established: then nothing was sent.
 */
import { setTimeout } from "node:timers/promises";

import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { createContextKey, type Interceptor, type UnaryResponse } from "@connectrpc/connect";

import { isLostStream } from "../../agent-client/lost-streams.ts";

/**
 * How long a backend may be unavailable, in total, before a call is no longer retried; recovery waits as long before it
 * undoes a start.
 */
export const awayLimitMs = 10_000;
export const awayPauseMs = 100;

/** Whether a call with a token may still be retried after its answer was lost; evaluated at each retry. */
export const mayRetry = createContextKey((): boolean => true, { description: "mayRetry" });

/** The backend, for calls that are retried. */
export interface Repeats {
  /** True once this process is shutting down: nobody needs an answer any more. */
  isClosed(): boolean;
  /** Makes a call without side effects. @param timeoutMs whole milliseconds @throws if it is not answered */
  probe(timeoutMs: number, signal: AbortSignal): Promise<unknown>;
}

/** Interceptor that retries unary calls where that is safe, transparently to the caller. */
export function repeating(backend: Repeats): Interceptor {
  return (next) => async (request) => {
    try {
      return await next(request);
    } catch (error) {
      if (request.stream || !mayRepeat(backend, error, request.signal)) {
        throw error;
      }
      if (request.method.idempotency !== MethodOptions_IdempotencyLevel.IDEMPOTENCY_UNKNOWN) {
        return await callAgain(backend, request.signal, () => next(request) as Promise<UnaryResponse>);
      }
      if (!hasToken(request.message)) {
        throw error;
      }
      const mayAsk = request.contextValues.get(mayRetry);
      const ask = () => next(request) as Promise<UnaryResponse>;
      return await retry(backend, { ask, mayAsk, signal: request.signal, lost: error });
    }
  };
}

function mayRepeat(backend: Repeats, error: unknown, signal: AbortSignal): boolean {
  return isLostStream(error) && !signal.aborted && !backend.isClosed();
}

/** Retries an idempotent call at once, and with a pause before each further attempt. @throws the last error */
async function callAgain(
  backend: Repeats,
  signal: AbortSignal,
  ask: () => Promise<UnaryResponse>,
): Promise<UnaryResponse> {
  const from = performance.now();
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (performance.now() - from >= awayLimitMs || !mayRepeat(backend, error, signal)) {
        throw error;
      }
    }
    await setTimeout(awayPauseMs);
  }
}

/** Whether a request may be retried: one that arrives twice with the same token takes effect once. */
function hasToken(input: object): boolean {
  return "clientToken" in input && input.clientToken !== "";
}

/** A call that is to be retried. */
interface LostCall {
  ask(): Promise<UnaryResponse>;
  mayAsk(): boolean;
  readonly signal: AbortSignal;
  readonly lost: unknown;
}

/**
 * Retries once the backend answers, with a pause before each attempt. A call without side effects probes for that: a
 * request on a connection that is not accepted yet would be read by the next backend even after this process has given
 * up.
 *
 * @throws the last connection error, if the backend was away for ten seconds in all or the call may not be retried
 */
async function retry(backend: Repeats, { ask, mayAsk, signal, lost }: LostCall): Promise<UnaryResponse> {
  let leftMs = awayLimitMs;
  for (let failure = lost; ; ) {
    const from = performance.now();
    do {
      if (performance.now() - from >= leftMs || !mayRepeat(backend, failure, signal)) {
        throw failure;
      }
      await setTimeout(awayPauseMs);
    } while (!(await isThere(backend, leftMs - (performance.now() - from), signal)));
    if (!mayAsk()) {
      throw failure;
    }
    leftMs -= performance.now() - from;
    try {
      return await ask();
    } catch (error) {
      failure = error;
    }
  }
}

/** Whether the backend answers within a time limit. */
async function isThere(backend: Repeats, limitMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    await backend.probe(Math.max(Math.ceil(limitMs), 1), signal);
    return true;
  } catch {
    return false;
  }
}
