/**
 * Calls whose backend was lost before it had answered: one that is killed is started again. What changes nothing is asked
 * again at once, and what is done once for a token after a while too. Of all else nobody knows whether it was done.
 */
import { setTimeout } from "node:timers/promises";

import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { createContextKey, type Interceptor, type UnaryResponse } from "@connectrpc/connect";

import { isLost } from "../../agent-client/grpc-transport.ts";

/** How long a backend may be away, in all, before a request is not made again; it waits as long before it undoes a start. */
const awayLimitMs = 10_000;
const awayPauseMs = 100;

/** Whether a call with a token may still be made again after its answer was lost; asked each time. */
export const mayAskAgain = createContextKey((): boolean => true, { description: "mayAskAgain" });

/** The backend, for calls that are made again. */
export interface Repeats {
  /** True from when this process ends: nobody wants an answer any more. */
  isClosed(): boolean;
  /** Makes a call without side effects. @param timeoutMs whole milliseconds @throws where it is not answered */
  probe(timeoutMs: number, signal: AbortSignal): Promise<unknown>;
}

/** Makes unary calls again where they may be, without the caller's knowing. */
export function repeating(backend: Repeats): Interceptor {
  return (next) => async (request) => {
    try {
      return await next(request);
    } catch (error) {
      if (request.stream || !mayRepeat(backend, error, request.signal)) {
        throw error;
      }
      if (request.method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS) {
        return await next(request);
      }
      if (!hasToken(request.message)) {
        throw error;
      }
      const mayAsk = request.contextValues.get(mayAskAgain);
      const ask = () => next(request) as Promise<UnaryResponse>;
      return await askAgain(backend, { ask, mayAsk, signal: request.signal, lost: error });
    }
  };
}

function mayRepeat(backend: Repeats, error: unknown, signal: AbortSignal): boolean {
  return isLost(error) && !signal.aborted && !backend.isClosed();
}

/** Whether a request may be made again: what comes twice with one token is done once. */
function hasToken(input: object): boolean {
  return "clientToken" in input && input.clientToken !== "";
}

/** A call that is to be made again. */
interface LostCall {
  ask(): Promise<UnaryResponse>;
  mayAsk(): boolean;
  readonly signal: AbortSignal;
  readonly lost: unknown;
}

/**
 * Asks again once the backend answers, after a pause each time. It is a call without side effects that finds that out: a
 * request on a connection that nobody has accepted yet would be read by the next backend even after this process has given
 * up.
 *
 * @throws the last loss, where the backend was away for ten seconds in all, or it may not be asked again
 */
async function askAgain(backend: Repeats, { ask, mayAsk, signal, lost }: LostCall): Promise<UnaryResponse> {
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

/** Whether the backend answers within a time. */
async function isThere(backend: Repeats, limitMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    await backend.probe(Math.max(Math.ceil(limitMs), 1), signal);
    return true;
  } catch {
    return false;
  }
}
