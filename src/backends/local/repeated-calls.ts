/**
 * Calls of the host process that wait for another one where it died: each may be repeated (host.proto), and nothing is left
 * half made or half cleared away.
 */
import { Code, ConnectError, type Transport } from "@connectrpc/connect";

import { systemClock } from "../../common/clock.ts";
import { pauseAfter } from "../../common/pauses.ts";

/** Milliseconds for which a call waits for the next host process, which is there within a second. */
const awayLimitMs = 10_000;
const pauses = { firstMs: 5, longestMs: 100 };
/** Codes of a call that failed because the host process is gone. */
const awayCodes: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Aborted, Code.Canceled]);

/** Tells whether a call failed because the host process is gone: another one is started. */
export function isAway(error: unknown): boolean {
  return error instanceof ConnectError && awayCodes.has(error.code);
}

/** Limits of {@link withRepeatedCalls}. */
export interface RepeatLimits {
  /** Ends each wait: there will be no other host process. */
  readonly closed: AbortSignal;
  /** Milliseconds for which a call waits; for tests. */
  readonly awayMs?: number | undefined;
}

/** A transport whose calls are made again while nobody answers; streams, until they have begun to be answered. */
export function withRepeatedCalls(transport: Transport, limits: RepeatLimits): Transport {
  return {
    unary: async (method, signal, timeoutMs, header, input, context) =>
      await repeated(limits, { signal, timeoutMs }, (leftMs) =>
        transport.unary(method, signal, leftMs, header, input, context),
      ),
    async stream(method, signal, timeoutMs, header, input, context) {
      const messages = await Array.fromAsync(input); // The host process is sent one message at most.
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

/** @throws what the last attempt throws */
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
        awayFrom = now; // One that was there for long has died.
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
