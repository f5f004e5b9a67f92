/**
 * Repeats calls after the host process has died, once another one runs: all calls may be repeated (host.proto), so that
 * nothing stays half made or half removed.
 */
import { Code, ConnectError, type Transport } from "@connectrpc/connect";

import { systemClock } from "../../common/clock.ts";
import { pauseAfter } from "../../common/pauses.ts";

/** Milliseconds that a call waits for the next host process, which starts within a second. */
const awayLimitMs = 10_000;
const pauses = { firstMs: 5, longestMs: 100 };
/** Codes of calls that failed because the host process has ended. */
const awayCodes: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Aborted, Code.Canceled]);

/** True if a call failed because the host process has ended; another one is being started. */
export function isAway(error: unknown): boolean {
  return error instanceof ConnectError && awayCodes.has(error.code);
}

/** Limits of {@link withRepeatedCalls}. */
export interface RepeatLimits {
  /** Ends all waits, when there will be no other host process. */
  readonly closed: AbortSignal;
  /** Milliseconds that a call waits; for tests. */
  readonly awayMs?: number | undefined;
}

/** A transport that repeats calls while nothing answers; streams only until their response begins. */
export function withRepeatedCalls(transport: Transport, limits: RepeatLimits): Transport {
  return {
    unary: async (method, signal, timeoutMs, header, input, context) =>
      await repeated(limits, { signal, timeoutMs }, (leftMs) =>
        transport.unary(method, signal, leftMs, header, input, context),
      ),
    async stream(method, signal, timeoutMs, header, input, context) {
      const messages = await Array.fromAsync(input); // Requests to the host process have one message at most.
      return await repeated(limits, { signal, timeoutMs }, (leftMs) =>
        transport.stream(method, signal, leftMs, header, eachOf(messages), context),
      );
    },
  };
}

interface CallLimits {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
}

/** @throws the last attempt's error */
async function repeated<T>(
  { closed, awayMs = awayLimitMs }: RepeatLimits,
  { signal, timeoutMs }: CallLimits,
  call: (leftMs: number | undefined) => Promise<T>,
): Promise<T> {
  const begun = performance.now();
  let awayFrom: number | undefined;
  for (let failures = 1; ; failures++) {
    const from = performance.now();
    const leftMs = timeoutMs === undefined ? undefined : Math.ceil(timeoutMs - (performance.now() - begun));
    try {
      return await call(leftMs);
    } catch (error) {
      const now = performance.now();
      if (awayFrom === undefined || now - from > awayMs) {
        awayFrom = now; // A long-lived host process has died.
        failures = 1;
      }
      const pause = pauseAfter(failures, pauses);
      const endsMs = Math.min(awayFrom + awayMs, begun + (timeoutMs ?? Number.POSITIVE_INFINITY));
      if (!isAway(error) || now + pause >= endsMs) {
        throw error;
      }
      const ended = signal === undefined ? closed : AbortSignal.any([signal, closed]);
      await systemClock.sleep(pause, ended).catch(() => {
        throw error;
      });
    }
  }
}

async function* eachOf<T>(messages: readonly T[]): AsyncGenerator<T> {
  yield* messages;
}
